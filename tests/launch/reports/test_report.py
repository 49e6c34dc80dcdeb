import html
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.reports import plots, prose, report
from launch.reports.facts import facts_of, placed
from launch.reports.prose import FINALISTS_TITLE, finalist_cells, spent_text, verdict
from launch.rundir.config import RunConfig
from launch.rundir.run import Run, open_run
from nas.analysis import front_of, select
from search_spaces import load_architecture, parse_architecture


def test_the_report_holds_front_baselines_and_pictures(make_run: Callable[..., Run]) -> None:
    folder = make_run().folder
    run, trials = open_run(folder)
    page = report.write(facts_of(run, trials))
    names = {path.name for path in page.parent.iterdir()}
    assert {"report.html", "report.md", "front.json", "front-macs.png", "front-params.png"} <= names
    assert {"progress.png", "effects.png"} <= names
    for image in page.parent.glob("*.png"):
        assert image.read_bytes().startswith(b"\x89PNG")
    assert {name for name in names if f"]({name})" in (page.parent / "report.md").read_text()} == {
        name for name in names if name.endswith(".png")
    }
    front = json.loads((page.parent / "front.json").read_text())
    assert [row["trial"] for row in front] == [trial.number for trial in front_of(trials, run.objectives)]
    baselines = {row["origin"] for row in facts_of(run, trials).rows} - {"searched"}
    assert baselines == {f"{name} (baseline)" for name in ("plain", "se", "cbam", "aa", "aw")}


def test_an_export_is_the_architecture_with_its_figures_above(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run().folder)
    best = select(trials, run.objectives, "best")
    text = prose.exported(run, best)
    assert parse_architecture(text) == best.architecture
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert any(line.startswith("# top1: ") and "after 4 epochs" in line for line in comments)
    assert any(line.startswith("# macs: ") and line.endswith("(analytic)") for line in comments)


def test_a_run_without_results_has_a_report(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run(jobs=1).folder)
    text = report.write(facts_of(run, trials)).read_text()
    assert "There is nothing to compare yet." in text


def test_the_verdict_compares_search_and_baselines(make_run: Callable[..., Run], config: RunConfig) -> None:
    longer = config.model_copy(update={"search": config.search.model_copy(update={"trials": 24})})
    run, trials = open_run(make_run(settings=longer).folder)
    sentence = verdict(facts_of(run, trials))
    complete = [t for t in trials if t.status == "complete" and not t.origin.is_finalist]
    baseline = max(t.epochs[4].metrics["top1"] for t in complete if t.origin.is_baseline)
    searched = max(t.epochs[4].metrics["top1"] for t in complete if not t.origin.is_baseline)
    assert f"{100 * abs(searched - baseline):.1f} points {'above' if searched > baseline else 'below'}" in sentence


def test_the_report_shows_finalists_with_interval_probability_and_group(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run().folder)
    rows = facts_of(run, trials).finalists
    again = {trial.origin.trial for trial in trials if trial.origin.is_finalist}
    assert {row["trial"] for row in rows} == again
    assert all(row["low"] <= row["mean"] <= row["high"] and 0 <= row["on_front"] <= 1 for row in rows)
    assert rows[0]["groups"].startswith("a")
    page = report.write(facts_of(run, trials))
    assert (page.parent / "finalists.png").read_bytes().startswith(b"\x89PNG")
    for text in (page.read_text(), (page.parent / "report.md").read_text()):
        assert FINALISTS_TITLE in text
        assert all(cell in html.unescape(text) for row in rows for cell in finalist_cells(row, run.metric).values())
        assert "of one seed on the validation split" not in text
    sentence = verdict(facts_of(run, trials))
    assert sentence.startswith("On one seed each")
    assert f"Trained again, trial {rows[0]['trial']} " in sentence


def test_before_finalists_the_report_says_that_it_is_one_seed(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run(jobs=9).folder)
    assert facts_of(run, trials).finalists == []
    page = report.write(facts_of(run, trials))
    assert "of one seed on the validation split" in page.read_text()
    assert "of one seed on the validation split" in (page.parent / "report.md").read_text()
    assert "Trained again" not in verdict(facts_of(run, trials))


def test_proposals_and_epochs_are_accounted_for(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run().folder)
    row = facts_of(run, trials).spent
    json.dumps(row)
    assert row["proposals"] == row["launched"] + sum(row["rejected"].values()) + row["duplicates"]
    assert row["launched"] == row["complete"] + row["stopped"] + row["failed"]
    assert row["epochs"] + row["finalist_epochs"] == sum(len(trial.epochs) for trial in trials)
    assert row["saved"] == 1 - row["epochs"] / row["full_epochs"] > 0
    sentences = spent_text(facts_of(run, trials))
    assert sentences in (report.write(facts_of(run, trials)).parent / "report.md").read_text()
    assert f"{row['epochs']} epochs instead of the {row['full_epochs']}" in sentences
    assert row["early_ranks"]
    assert row["early_ranks"].keys() == {trial.last_epoch for trial in trials if trial.status == "stopped"}
    assert all(f"{value:.2f} at epoch {epoch}" in sentences for epoch, value in row["early_ranks"].items())


@pytest.mark.parametrize(
    ("placements", "text"),
    [
        ({}, "plain"),
        ({"*": {"refine": "se"}}, "se everywhere"),
        ({"layer[23].*": {"conv": "aw"}, "layer1.1": {"refine": "cbam"}}, "cbam in layer1.1, aw in layer2 layer3"),
        (
            {"layer3.1": {"conv": "aw", "refine": "se"}, "layer4.*": {"refine": "se"}},
            "aw in layer3.1, se in layer3.1 layer4",
        ),
    ],
)
def test_placements_have_a_short_form(placements: dict[str, dict[str, str]], text: str, tmp_path: Path) -> None:
    skeleton = {"family": "resnet", "depth": 18, "image_size": 32, "num_classes": 4}
    (tmp_path / "a.yaml").write_text(json.dumps({"schema": 1, "skeleton": skeleton, "placements": placements}))
    assert placed(load_architecture(tmp_path / "a.yaml")) == text


def test_low_stopped_trials_do_not_flatten_the_plot() -> None:
    complete = [plots.Point(x, y, on_front=True) for x, y in ((1.0, 82.0), (2.0, 84.0))]
    (axes,) = plots.front([*complete, plots.Point(1.5, 11.0, complete=False)], x_label="cost", y_label="top-1").axes
    low, high = axes.get_ylim()
    assert 80 < low < 82
    assert 84 < high < 86
    assert "stopped early, below" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_high_stopped_trials_of_a_minimised_metric_are_at_the_upper_edge() -> None:
    points = [plots.Point(1.0, 18.0), plots.Point(2.0, 16.0), plots.Point(1.5, 90.0, complete=False)]
    (axes,) = plots.front(points, x_label="cost", y_label="error", direction="minimize").axes
    low, high = axes.get_ylim()
    assert 14 < low < 16
    assert 18 < high < 20
    assert "stopped early, above" in [text.get_text() for text in axes.get_legend().get_texts()]
