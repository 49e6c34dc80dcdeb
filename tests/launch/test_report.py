import json
from collections.abc import Callable

from launch import report
from launch.run import Run, open_run
from nas.analysis import front_of, select
from search_spaces import parse_architecture


def test_the_report_holds_front_hand_placements_and_pictures(make_run: Callable[..., Run]) -> None:
    folder = make_run().folder
    run, trials = open_run(folder)
    page = report.write(run, trials)
    names = {path.name for path in page.parent.iterdir()}
    assert {"report.html", "report.md", "front.json", "front-macs.png", "front-params.png"} <= names
    assert {"progress.png", "effects.png"} <= names
    for image in page.parent.glob("*.png"):
        assert image.read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert text.count("data:image/png;base64,") == len(list(page.parent.glob("*.png")))
    front = json.loads((page.parent / "front.json").read_text())
    assert [row["trial"] for row in front] == [trial.number for trial in front_of(trials, run.objectives)]
    hands = {row["origin"] for row in report.rows(run, trials)} - {"searched"}
    assert hands == {f"{name} (by hand)" for name in ("plain", "se", "cbam", "aa", "aw")}


def test_an_export_is_the_architecture_with_its_figures_above(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run().folder)
    best = select(trials, run.objectives, "best")
    text = report.exported(run, best)
    assert parse_architecture(text) == best.architecture
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert any(line.startswith("# top1: ") and "after 4 epochs" in line for line in comments)
    assert any(line.startswith("# macs: ") and line.endswith("(analytic)") for line in comments)


def test_a_run_that_has_only_begun_has_a_report_too(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run(jobs=1).folder)
    text = report.write(run, trials).read_text()
    assert "There is nothing to compare yet." in text


def test_the_verdict_says_who_won(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run().folder)
    sentence = report.verdict(run, trials)
    complete = [t for t in trials if t.status == "complete" and not t.origin.startswith("finalist:")]
    by_hand = max(t.epochs[4].val_top1 for t in complete if t.origin.startswith("hand:"))
    searched = max(t.epochs[4].val_top1 for t in complete if not t.origin.startswith("hand:"))
    assert f"{100 * abs(searched - by_hand):.1f} points {'above' if searched > by_hand else 'below'}" in sentence
