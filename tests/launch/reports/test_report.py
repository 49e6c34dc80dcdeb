import html
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.reports import plots, prose, report
from launch.reports.facts import facts_of, placed
from launch.reports.prose import STANDINGS_TITLE, spent_text, standing_cells, verdict
from launch.rundir.run import Run, open_run
from nas.analysis import front_by_means, select
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
    facts = facts_of(run, trials)
    assert facts.answer is not None
    assert [row["trial"] for row in front] == [t.number for t in front_by_means(facts.means, run.objectives)]
    baselines = {row["origin"] for row in facts.rows} - {"searched"}
    assert baselines == {f"{name} (baseline)" for name in ("plain", "se", "cbam", "aa", "aw")}


def test_an_export_is_the_architecture_with_its_figures_above(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run().folder)
    told = facts_of(run, trials).means
    best = select(trials, run.objectives, "best", told)
    text = prose.exported(run, best, told)
    assert parse_architecture(text) == best.architecture
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert any(line.startswith("# top1: ") and "after 4 epochs" in line for line in comments)
    assert any(line.startswith("# macs: ") and line.endswith("(analytic)") for line in comments)


def test_a_run_without_results_has_a_report(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run(jobs=1).folder)
    text = report.write(facts_of(run, trials)).read_text()
    assert "there is no answer yet" in text


def test_the_report_compares_networks_with_interval_and_probability(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run().folder)
    facts = facts_of(run, trials)
    rows = facts.standings
    again = {trial.origin.trial for trial in trials if trial.origin.is_finalist}
    assert again
    assert {row["trial"] for row in rows} >= again
    assert all(row["low"] <= row["mean"] <= row["high"] and 0 <= row["on_front"] <= 1 for row in rows)
    page = report.write(facts)
    assert (page.parent / "standings.png").read_bytes().startswith(b"\x89PNG")
    for text in (page.read_text(), (page.parent / "report.md").read_text()):
        assert STANDINGS_TITLE in text
        assert all(cell in html.unescape(text) for row in rows for cell in standing_cells(row, run.metric).values())
        assert "of one seed on the validation split" not in text
    assert facts.answer is not None
    assert f"Take trial {facts.answer.take} " in verdict(facts)


def test_exports_and_json_carry_the_mean_and_the_interval(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run().folder)
    facts = facts_of(run, trials)
    page = report.write(facts)
    assert facts.answer is not None
    for row in json.loads((page.parent / "front.json").read_text()):
        standing = next(one for one in facts.answer.standings if one.trial.number == row["trial"])
        mean = standing.mean
        assert (row["top1"], row["low"], row["high"]) == (mean.value, mean.low, mean.high)
        assert row["seeds"] == len(standing.values)
        assert f"{100 * mean.value:.1f} % (" in (page.parent / f"front-{row['trial']}.yaml").read_text()


def test_before_there_is_an_answer_the_report_says_that_it_is_one_seed(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run(jobs=2).folder)
    facts = facts_of(run, trials)
    assert facts.answer is None
    page = report.write(facts)
    assert "of one seed on the validation split" in page.read_text()
    assert "of one seed on the validation split" in (page.parent / "report.md").read_text()
    assert "no answer yet" in verdict(facts)


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
