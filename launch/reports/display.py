"""The progress of a search: a live panel on a terminal, single lines elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from launch.ray.note import ClusterNote
from launch.reports.tables import duration, metric_amount, near_miss
from nas.search import Metric, Summary

_REFRESH_S = 0.25
_LINE_EVERY_S = 10.0


class Display:
    """Shows the search's `Summary` repeatedly. A context manager.

    On a terminal a panel is redrawn four times a second; a file or a pipe gets one line every ten seconds.
    """

    def __init__(
        self,
        console: Console,
        summary: Callable[[], Summary],
        metric: Metric,
        cluster: Callable[[], ClusterNote | None] = lambda: None,
    ) -> None:
        self._console = console
        self._metric = metric
        self._summary = summary
        self._cluster = cluster
        self._already = ended(summary())
        self._started = time.monotonic()
        self._shown = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Display":
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.__exit__(exc_type, exc, traceback)

    def tick(self) -> None:
        """Draws if it is time. Only then is the summary computed."""
        now = time.monotonic()
        if now - self._shown < (_REFRESH_S if self._live else _LINE_EVERY_S):
            return
        self._shown = now
        summary, note = self._summary(), self._cluster()
        if self._live:
            self._live.update(self._panel(summary, note), refresh=True)
        else:
            self._console.print(line(summary, self._metric, self._left(summary), note), soft_wrap=True)

    def _left(self, summary: Summary) -> float | None:
        """Estimated seconds left, from the share of decided trials; None with too few of them."""
        decided, elapsed = ended(summary) - self._already, time.monotonic() - self._started
        to_come = summary.target + summary.repetitions - ended(summary)
        return None if decided < 3 else max(0.0, elapsed / decided * to_come)

    def _panel(self, summary: Summary, note: ClusterNote | None) -> Table:
        total = max(1, summary.target + summary.repetitions)
        panel = Table.grid(padding=(0, 2))
        panel.add_column(style="dim", justify="right")
        panel.add_column()
        panel.add_row("search", ProgressBar(total=total, completed=ended(summary), width=40))
        for name, value in _facts(summary, self._metric, self._left(summary), note):
            panel.add_row(name, value)
        return panel


def ended(summary: Summary) -> int:
    """Trials that need no worker now: ended, or waiting at a rung for the results of others."""
    return summary.complete + summary.stopped + summary.failed + summary.waiting + summary.repetitions_complete


def line(summary: Summary, metric: Metric, left: float | None, note: ClusterNote | None = None) -> str:
    """The state in one line."""
    return "  ".join(f"{name} {value}" for name, value in _facts(summary, metric, left, note))


def _facts(summary: Summary, metric: Metric, left: float | None, note: ClusterNote | None) -> list[tuple[str, str]]:
    rejected = ", ".join(f"{count} {stage}" for stage, count in sorted(summary.rejected.items())) or "0"
    best = "-" if summary.best is None else metric_amount(summary.best, metric)
    facts = [
        ("trials", f"{summary.launched}/{summary.target}"),
        ("running", str(summary.running)),
        ("trained in full", str(summary.complete)),
        ("stopped early", str(summary.stopped)),
        ("best", best),
        ("front", str(summary.front)),
        ("over budget", rejected),
    ]
    if summary.nearest:
        facts.append((f"nearest of {summary.rejected_in_a_row} rejected in a row", near_miss(summary.nearest)))
    if summary.silent:
        epochs = " and ".join(map(str, summary.silent))
        facts.append(("stops nobody", f"at epoch {epochs}, which says nothing about the end"))
    if summary.waiting:
        facts.append(("waiting at a rung", str(summary.waiting)))
    if summary.duplicates:
        facts.append(("known already", str(summary.duplicates)))
    if summary.failed:
        facts.append(("failed", str(summary.failed)))
    if summary.repetitions:
        facts.append(("new seeds", f"{summary.repetitions_complete}/{summary.repetitions}"))
    if note is not None and note.waiting:
        facts.append(("waiting for a place", str(note.waiting)))
    if note is not None and (idle := sum(node.free_gpus for node in note.nodes)) > 1e-6:
        facts.append(("idle GPUs", f"{idle:g} of {sum(node.gpus for node in note.nodes):g} (nas status says why)"))
    facts.append(("left", "-" if left is None else duration(left)))
    return facts
