"""Report, status and the last line of a search say why trials failed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import cli
from launch.reports import report
from launch.reports.facts import facts_of
from launch.reports.failures import failure_lines
from launch.rundir.run import Run, open_run
from nas.costs import Budget, Conditions, CostModel
from nas.search import Engine, Journal, Outcome

REASONS = ["DataError: img/cat/00.png\nis truncated", "DataError: img/cat/00.png\nis truncated", "Other: [x] <b>"]
LINES = ["2 failed (trials 0 to 1): DataError: img/cat/00.png is truncated", "1 failed (trial 2): Other: [x] <b>"]


@pytest.fixture
def failed(make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose first three trials failed."""
    monkeypatch.setattr("launch.reports.report.figures", lambda _: {})
    run = make_run(jobs=0)
    costs = CostModel(Conditions())
    with Journal.open(run.folder) as journal:
        budget = Budget.parse(run.config.budget, plain=run.space.plain(), costs=costs)
        engine = Engine(
            journal, run.space, run.config.search, objectives=run.objectives, epochs=4, costs=costs, budget=budget
        )
        for reason in REASONS:
            while (job := engine.next()) is None:
                pass
            engine.finish(job, Outcome("failed", reason))
    return run.folder


def test_report_and_status_say_why(failed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = facts_of(*open_run(failed))
    assert failure_lines(facts.failures) == LINES
    page = report.write(facts)
    assert all(line in (page.parent / "report.md").read_text() for line in LINES)
    assert "1 failed (trial 2): Other: [x] &lt;b&gt;" in page.read_text()
    for command in ("report", "status"):
        assert cli.run([command, str(failed)]) == cli.SUCCESS
        assert all(line in capsys.readouterr().out for line in LINES[:1])
        assert cli.run([command, str(failed), "--json"]) == cli.SUCCESS
        told = json.loads(capsys.readouterr().out)["failures"]
        assert [(row["count"], row["trials"]) for row in told] == [(2, [0, 1]), (1, [2])]


def test_the_last_lines_of_a_search_without_a_result_say_why(
    failed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Summary:
        complete, exhausted, failed, rejected = 0, None, 3, {}

    monkeypatch.setattr("launch.session.search", lambda *_: (Summary, facts_of(*open_run(failed))))
    assert cli.run(["resume", str(failed)]) == cli.FAILED
    assert capsys.readouterr().err.splitlines() == [
        "nas: no trial was trained to the end (3 failed, 0 over budget)",
        *LINES,
    ]


def test_many_reasons_are_cut() -> None:
    rows = [{"status": "failed", "reason": str(n), "count": 9, "trials": list(range(0, 18, 2))} for n in range(7)]
    lines = failure_lines(rows)
    assert lines[0] == "9 failed (trials 0, 2, 4, 6, 8, ...): 0"
    assert lines[5:] == ["18 more, for 2 other reasons"]
