"""Tests the display of a running search."""

from launch.reports.display import line
from nas.search import Metric, Summary

TOP1 = Metric(name="top1", label="top-1")


def test_the_binding_limit_is_shown_after_many_rejections() -> None:
    summary = Summary(
        target=20, launched=0, complete=0, running=0, waiting=0, stopped=0, failed=0, rejected={"static": 30},
        duplicates=0, repetitions=0, repetitions_complete=0, epochs=0, best=None, front=0, hypervolume=0.0,
        exhausted=None, rejected_in_a_row=30, nearest={"params": (20_000.0, 22_000.0)},
    )  # fmt: skip
    shown = line(summary, TOP1, left=None)
    assert "nearest of 30 rejected in a row params 10.0% over its limit of 20 k: 22 k would do" in shown


def test_waiting_trials_are_not_shown_as_stopped() -> None:
    summary = Summary(
        target=20, launched=12, complete=3, running=2, waiting=4, stopped=1, failed=0, rejected={"macs": 5},
        duplicates=0, repetitions=0, repetitions_complete=0, epochs=40, best=0.812, front=2, hypervolume=0.3,
        exhausted=None,
    )  # fmt: skip
    shown = line(summary, TOP1, left=75.0)
    assert "trials 12/20" in shown
    assert "stopped early 1" in shown
    assert "waiting at a rung 4" in shown
    assert "over budget 5 macs" in shown
    assert "left 1 min 15 s" in shown
    assert "best 81.2 %" in shown
