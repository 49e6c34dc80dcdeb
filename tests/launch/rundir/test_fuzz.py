"""Thousands of damaged files of a run: each is refused in a line or two, or still read correctly.

Everything is seeded. Damage of the journal is never ignored. The other files can be recreated, so damage of them never
ends a command.
"""

import contextlib
import io
import json
import random
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launch.ray.note import left
from launch.reports import status
from launch.reports.facts import facts_of
from launch.reports.prose import exported
from launch.reports.report import print_report
from launch.reports.tables import json_text
from launch.rundir.run import Run, open_run
from nas.analysis import select
from nas.costs.store import DamagedCosts, Store
from nas.search import Journal, JournalError
from search_spaces import UserFacingError

Bounded = Callable[[object], contextlib.AbstractContextManager[None]]
FLIPS, OTHERS, STRANGERS = 2_000, 500, 300


def damage(data: bytes, rng: random.Random) -> bytes:
    """One bit changed, bytes overwritten, or a line dropped, doubled or swapped with its neighbour."""
    lines = data.splitlines(keepends=True)
    kind = rng.choice(["bit", "bytes", "drop", "double", "swap"] if len(lines) > 2 else ["bit", "bytes"])
    at, place = rng.randrange(len(data)), rng.randrange(max(len(lines) - 1, 1))
    match kind:
        case "bit":
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        case "bytes":
            return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at + 8 :]
        case "drop":
            del lines[place]
        case "double":
            lines.insert(place, lines[place])
        case "swap":
            lines[place], lines[place + 1] = lines[place + 1], lines[place]
    return b"".join(lines)


def read_all(folder: Path) -> str:
    """The output of `nas status`, `nas report --json` and `nas export` for a run, without plots."""
    run, trials = open_run(folder)
    facts = facts_of(run, trials)
    out = io.StringIO()
    console = Console(file=out, width=200)
    with contextlib.redirect_stdout(out):
        print_report(console, facts, folder, json=True)
    found = status.status(run, trials, now=2e9)
    json_text(found)
    status.show(console, found)
    for which in ("knee", "best", "0"):
        with contextlib.suppress(ValueError):  # `nas export` words it
            out.write(exported(run, select(trials, run.objectives, which, facts.means), facts.means))
    return out.getvalue()


@pytest.mark.parametrize("count", [FLIPS // 4, pytest.param(FLIPS, marks=[pytest.mark.slow, pytest.mark.repeated])])
def test_damage_of_a_journal_is_never_ignored(whole: Run, tmp_path: Path, bounded: Bounded, count: int) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    journal, data, rng = folder / "journal.log", (whole.folder / "journal.log").read_bytes(), random.Random(1)
    silent, said = [], set()
    for number in range(count):
        damaged = damage(data, rng)
        journal.write_bytes(damaged)
        refused = None
        with bounded(number):
            try:
                open_run(folder)
            except JournalError as error:
                refused = str(error)
        # An end that is torn off is what a kill leaves: the run up to there.
        if refused is not None:
            said.add(refused)
        elif damaged != data and not data.startswith(damaged[: damaged.rfind(b"\n") + 1]):
            silent.append(number)
        if number % 20 == 0 and damaged != data:
            with contextlib.suppress(JournalError):
                Journal.open(folder).close()
    assert silent == []
    assert all(line.isprintable() for line in said)


VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 10**30, 1.5, -0.5, float("nan"), float("inf")),
    *("", "x", "\x1b[31mred\x1b[0m", "[bold]", "finalist:99", [], {}, {"x": 1}, [1]),
]


def changed_within(value: Any, rng: random.Random) -> Any:  # noqa: ANN401  # JSON
    """The JSON with one random value replaced, or one random key renamed or dropped."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        match rng.randrange(12):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {("\x1b[31m" + k if k == key else k): v for k, v in value.items()}
        return {**value, key: changed_within(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        return [*value[:at], changed_within(value[at], rng), *value[at + 1 :]]
    return rng.choice(VALUES)


def test_a_strangers_journal_is_refused_or_read_completely(whole: Run, tmp_path: Path, bounded: Bounded) -> None:
    """A journal without seals and with other values: the output is harmless to a terminal, and is JSON."""
    folder = tmp_path / "run"
    folder.mkdir()
    data = re.sub(rb',"seal":"........"', b"", (whole.folder / "journal.log").read_bytes())
    lines, rng = [json.loads(line) for line in data.splitlines()], random.Random(2)
    refused = 0
    for _ in range(STRANGERS):
        at = rng.randrange(len(lines))
        changed = [*lines[:at], changed_within(lines[at], rng), *lines[at + 1 :]]
        (folder / "journal.log").write_text("".join(json.dumps(line) + "\n" for line in changed))
        with bounded(changed[at]):
            try:
                said = read_all(folder)
            except UserFacingError as error:
                said = str(error)
                refused += 1
        assert "\x1b" not in said
    assert refused > STRANGERS // 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("costs.jsonl", '{"key": "a", "value": {"x": 1.5}}\n{"key": "b", "value": 2}\n'),
        ("cluster.json", '{"at": 1999999999.0, "waiting": 1, "wanted": 2, "running": 1, "nodes": []}'),
        ("driver.json", '{"pid": 1, "host": "somewhere"}'),
    ],
)
def test_other_files_of_a_run_end_no_command(
    whole: Run, tmp_path: Path, name: str, text: str, bounded: Bounded
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole.folder, folder)
    run, trials = open_run(folder)
    rng = random.Random(3)
    for _ in range(OTHERS):
        damaged = damage(text.encode(), rng)
        (folder / name).write_bytes(damaged)
        said = io.StringIO()
        with bounded(damaged), warnings.catch_warnings():
            warnings.simplefilter("ignore", DamagedCosts)  # it names the file and counts the lines: test_store.py
            left(folder)
            Store(folder / "costs.jsonl").get("a")
            status.show(Console(file=said, width=200), status.status(run, trials, now=2e9))
        assert "\x1b" not in said.getvalue()
