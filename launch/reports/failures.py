"""Why trials failed: grouped by reason, for report, status and the last line of a search."""

from collections.abc import Mapping, Sequence
from typing import Any

from nas.search import TrialRecord
from search_spaces.errors import printable

_LONGEST = 300
_SHOWN = 5


def failures(trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """Trials that failed or were rejected for a reason other than a limit: one row per reason, the most frequent first.

    Keys: ``status`` (``failed``, ``rejected``), ``reason`` (one line), ``count``, ``trials`` (their numbers).
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for trial in trials:
        if trial.status == "failed" or (trial.status == "rejected" and trial.reason):
            groups.setdefault((trial.status, _line(trial.reason)), []).append(trial.number)
    rows = [
        {"status": status, "reason": reason, "count": len(numbers), "trials": numbers}
        for (status, reason), numbers in groups.items()
    ]
    return sorted(rows, key=lambda row: -len(row["trials"]))


def failure_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows of `failures` as text, at most five reasons: ``5 failed (trials 0 to 4): DataError: ...``."""
    lines = [f"{row['count']} {row['status']} ({_numbers(row['trials'])}): {row['reason']}" for row in rows[:_SHOWN]]
    others = rows[_SHOWN:]
    more = [f"{sum(row['count'] for row in others)} more, for {len(others)} other reasons"] if others else []
    return lines + more


def _line(reason: str) -> str:
    text = printable(reason.strip()) or "no reason is known"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _numbers(numbers: Sequence[int]) -> str:
    """``trial 3``; ``trials 0 to 4, 7``."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][-1] == number - 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    told = ", ".join(" to ".join(map(str, span)) for span in spans[:_SHOWN]) + (", ..." if len(spans) > _SHOWN else "")
    return f"trial{'s' if len(numbers) > 1 else ''} {told}"
