"""The state of a run, from its folder alone: on any machine that sees the folder, without Ray.

The journal records each epoch with its worker, its node and its time; everything else is computed from that. Each time
comes from the clock of the machine that wrote it.
"""

import itertools
import json
import os
import socket
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from launch.ray.note import ClusterNote, idle_gpus, left
from launch.reports.failures import failure_lines, failures
from launch.reports.tables import duration, near_miss, print_table
from launch.rundir import names
from launch.rundir.run import Run
from nas.search import EpochRecord, TrialRecord
from search_spaces.errors import named, printable

_PACE_OVER = 64
"""The pace is computed over this number of latest epochs."""
_REJECTED_IN_A_ROW = 24
_SILENT_AFTER = 3.0
"""Warn about a worker that is silent for this many times the duration of its epoch."""
_SILENT_AT_LEAST_S = 60.0
_FIRST_EPOCH_S = 600.0
"""Warn about a worker without an epoch after this time, while the duration of an epoch is unknown."""
_NOTE_HOLDS_S = 60.0
"""A driver writes its note of the cluster every few seconds; an older note is out of date."""


def status(run: Run, trials: Sequence[TrialRecord], now: float | None = None) -> dict[str, Any]:
    """The state of a run, JSON-able.

    Keys: ``state`` (``running``, ``stopped``, ``done``), ``driver`` (process and host, None if none holds the run),
    ``silent_s`` (seconds since the last epoch or None), ``trials`` (counts), ``rejected`` (by stage), ``epochs``,
    ``failures`` (one row per reason), ``pace`` (epochs per minute of all workers), ``left_s`` (estimate or None),
    ``cluster`` (Ray's nodes and jobs a few seconds ago, or None), ``nodes``, ``training`` (one row per running trial),
    ``waiting`` (one row per rung), ``warnings``.
    """
    now = time.time() if now is None else now
    driver = _driver(run.folder)
    search, epochs = run.config.search, run.config.trainer.epochs
    searched = [trial for trial in trials if trial.plan is not None and not trial.origin.is_finalist]
    repeated = [trial for trial in trials if trial.plan is not None and trial.origin.is_finalist]
    counts = Counter(trial.status for trial in searched)
    under_way = [trial for trial in trials if trial.status == "active" and trial.last_epoch < trial.stop_epoch]
    waiting = [trial for trial in trials if trial.status == "active" and trial.last_epoch >= trial.stop_epoch]
    proposed = {
        trial.origin.name
        for trial in trials
        if trial.origin.is_baseline and (trial.plan is not None or trial.status in ("rejected", "duplicate"))
    }
    target = search.target(len(searched), len(run.space.baselines().keys() - proposed))
    to_come = target - len(searched)
    unfinished = bool(under_way or waiting or to_come)
    state = "running" if driver is not None else "stopped" if unfinished else "done"
    told = sorted(
        ((record.ended, record) for trial in trials for record in trial.epochs.values() if record.ended is not None),
        key=lambda pair: pair[0],
    )
    pace = _pace(told[-_PACE_OVER:])
    training = [_training(trial, told, now, driving=driver is not None) for trial in under_way]
    nodes = _nodes(told[-_PACE_OVER:], training)
    note = left(run.folder) if state == "running" else None
    if note is not None and not abs(now - note.at) < _NOTE_HOLDS_S:
        note = None
    found: dict[str, Any] = {
        "run": str(run.folder),
        "state": state,
        "driver": driver,
        "silent_s": max(0.0, now - told[-1][0]) if told else None,
        "trials": {
            "target": target,
            "launched": len(searched),
            "complete": counts["complete"],
            "stopped_early": counts["stopped"],
            "failed": counts["failed"],
            "training": len(under_way),
            "waiting": len(waiting),
            "repetitions": len(repeated),
            "repetitions_complete": sum(trial.status == "complete" for trial in repeated),
            "known_already": sum(trial.status == "duplicate" for trial in trials),
        },
        "rejected": dict(Counter(trial.rejected_by for trial in trials if trial.rejected_by is not None)),
        "failures": failures(trials),
        "epochs": sum(len(trial.epochs) for trial in trials),
        "pace": None if pace is None else 60 * pace,
        "left_s": None,
        "cluster": None if note is None else note.model_dump(mode="json"),
        "nodes": nodes,
        "training": training,
        "waiting": _rungs(searched, waiting, search.eta),
        "warnings": [],
    }
    if state == "running" and pace:
        found["left_s"] = _epochs_left(searched, under_way, to_come, epochs) / pace
    found["warnings"] = _warnings(found, to_come) + _binding(run.limits, trials)
    if note is not None:
        found["warnings"] += _never_heard(note, training, told, now)
        found["warnings"] += idle_gpus(note, run.config.resources, to_come) + _unplaced(note)
    return found


def show(console: Console, found: Mapping[str, Any]) -> None:
    """Prints what `status` found."""
    trials, driver = found["trials"], found["driver"]
    at_work = (
        f"process {driver['pid']} on {driver['host']}" if driver else "none is running; nas resume continues the run"
    )
    heard = "-" if found["silent_s"] is None else f"{duration(found['silent_s'])} ago"
    rejected = ", ".join(f"{count} {stage}" for stage, count in sorted(found["rejected"].items())) or "0"
    lines = [
        ("run", f"{named(found['run'])}: {found['state']}"),
        ("driver", printable("-" if found["state"] == "done" else at_work)),
        ("last heard", heard),
        (
            "trials",
            f"{trials['launched']} of {trials['target']} launched, {trials['complete']} trained in full, "
            f"{trials['stopped_early']} stopped early, {trials['failed']} failed",
        ),
        ("over budget", printable(rejected)),
        ("epochs", f"{found['epochs']}" + (f", {found['pace']:.3g} a minute" if found["pace"] else "")),
        (
            "new seeds",
            f"{trials['repetitions_complete']} of {trials['repetitions']} trained" if trials["repetitions"] else "",
        ),
        ("left", f"about {duration(found['left_s'])}" if found["left_s"] is not None else ""),
    ]
    for name, value in lines:
        if value:
            console.print(f"{name:>12}  {value}", soft_wrap=True)
    note = found["cluster"] or {"nodes": []}
    for title, rows in (
        ("cluster", [_given(row) for row in note["nodes"]]),
        ("nodes", [{**row, "busy": f"{100 * row['busy']:.0f} %"} for row in found["nodes"]]),
        ("training", [{**row, "silent_s": _ago(row["silent_s"])} for row in found["training"]]),
        ("waiting at a rung for the results of others", found["waiting"]),
    ):
        if rows:
            console.print()
            print_table(console, [_cells(row) for row in rows], title=title)
    for line in failure_lines(found["failures"]):
        console.print(f"\n{line}", soft_wrap=True)
    for warning in found["warnings"]:
        console.print(f"\nwarning: {printable(warning)}", soft_wrap=True)


def _driver(folder: Path) -> dict[str, Any] | None:
    """The process that holds the run, by its own note; None if it ran on this machine and is dead."""
    try:
        holder = json.loads((folder / names.DRIVER).read_text())
        pid, host = int(holder["pid"]), printable(str(holder["host"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if host == socket.gethostname():
        try:
            os.kill(max(1, pid), 0)
        except (ProcessLookupError, OverflowError):
            return None
        except PermissionError:
            pass  # it is alive, but another user's
    return {"pid": pid, "host": host}


def _pace(told: Sequence[tuple[float, EpochRecord]]) -> float | None:
    """Epochs per second of all workers, since the last pause (a time without a driver)."""
    if len(told) < 3:
        return None
    pause = 10 * max(statistics.median(record.seconds for _, record in told), 1.0)
    first = len(told) - 1
    while first and told[first][0] - told[first - 1][0] <= pause:
        first -= 1
    span = told[-1][0] - told[first][0]
    return (len(told) - 1 - first) / span if span > 0 and len(told) - first >= 3 else None


def _epochs_left(searched: Sequence[TrialRecord], under_way: Sequence[TrialRecord], to_come: int, epochs: int) -> float:
    """Epochs still to train: running trials to their next stop, future trials as long as the mean ended trial."""
    ended = [len(trial.epochs) for trial in searched if trial.ended and not trial.origin.is_baseline]
    mean = statistics.fmean(ended) if ended else float(epochs)
    return sum(trial.stop_epoch - trial.last_epoch for trial in under_way) + to_come * mean


def _training(
    trial: TrialRecord, told: Sequence[tuple[float, EpochRecord]], now: float, *, driving: bool
) -> dict[str, Any]:
    """A running trial. Its worker is known if the worker's latest epoch belongs to this trial."""
    last = trial.epochs.get(trial.last_epoch)
    newest = {(record.node, record.worker): record for _, record in told}
    here = last is not None and last.ended is not None and newest.get((last.node, last.worker)) == last
    return {
        "trial": trial.number,
        "from": str(trial.origin),
        "epoch": trial.last_epoch,
        "to": trial.stop_epoch,
        "node": last.node if here and driving and last else None,
        "worker": last.worker if here and driving and last else None,
        "silent_s": max(0.0, now - last.ended) if last and last.ended is not None else None,
        "epoch_s": last.seconds if last else None,
    }


def _nodes(told: Sequence[tuple[float, EpochRecord]], training: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each node's workers, epochs and share of busy time, from the latest epochs."""
    by_node: dict[str, list[tuple[float, EpochRecord]]] = {}
    for pair in told:
        by_node.setdefault(pair[1].node or "?", []).append(pair)
    found = []
    for node, pairs in sorted(by_node.items()):
        workers = {record.worker for _, record in pairs}
        span = told[-1][0] - min(ended - record.seconds for ended, record in told)
        busy = sum(record.seconds for _, record in pairs) / (span * len(workers)) if span > 0 else 0.0
        found.append(
            {
                "node": node,
                "workers": len(workers),
                "training": sum(row["node"] == node for row in training),
                "epochs": len(pairs),
                "busy": min(1.0, busy),
            }
        )
    return found


def _rungs(searched: Sequence[TrialRecord], waiting: Sequence[TrialRecord], eta: int) -> list[dict[str, Any]]:
    """The trials that wait at each rung."""
    rungs: dict[int, list[int]] = {}
    for trial in waiting:
        rungs.setdefault(trial.stop_epoch, []).append(trial.number)
    return [
        {
            "epoch": epoch,
            "trials": numbers,
            "reached": sum(epoch in trial.epochs for trial in searched),
            "promoted": f"one in {eta}",
        }
        for epoch, numbers in sorted(rungs.items())
    ]


def _binding(limits: Mapping[str, float], trials: Sequence[TrialRecord]) -> list[str]:
    """A warning with the nearest miss, if dozens of proposals in a row were over the budget."""
    row = list(itertools.takewhile(lambda trial: trial.plan is None, reversed(trials)))
    over = [
        {name: excess for name, excess in trial.budget.violations.items() if excess > 0 and name in limits}
        for trial in row
        if trial.status == "rejected" and trial.budget is not None
    ]
    over = [broken for broken in over if broken]
    if len(over) < _REJECTED_IN_A_ROW:
        return []
    nearest = min(over, key=lambda broken: max(broken.values()))
    figures = {name: (limits[name], limits[name] * (1 + excess)) for name, excess in nearest.items()}
    return [f"the last {len(over)} proposals were over the budget; the nearest: {near_miss(figures)}"]


def _warnings(found: Mapping[str, Any], to_come: int) -> list[str]:
    if found["state"] != "running":
        return []
    warnings = []
    for row in found["training"]:
        if row["epoch_s"] is not None and row["silent_s"] > max(_SILENT_AFTER * row["epoch_s"], _SILENT_AT_LEAST_S):
            where = f" (worker {row['worker']} on {row['node']})" if row["node"] else ""
            warnings.append(
                f"trial {row['trial']}{where} was last heard {duration(row['silent_s'])} ago, and its epochs take "
                f"{duration(row['epoch_s'])}: its node may be gone, or the driver"
            )
    workers = sum(row["workers"] for row in found["nodes"])
    idle = workers - len(found["training"])
    if idle > 0:
        why = (
            "the next proposals are being checked against the budget"
            if to_come
            else "all trials are launched, and the last ones end one by one"
        )
        warnings.append(f"{idle} of {workers} workers have nothing to train: {why}")
    return warnings


def _never_heard(
    note: ClusterNote, training: Sequence[Mapping[str, Any]], told: Sequence[tuple[float, EpochRecord]], now: float
) -> list[str]:
    """A sentence for each trial without an epoch for far longer than an epoch of other trials takes."""
    usual = statistics.median(record.seconds for _, record in told) if told else None
    patience = _FIRST_EPOCH_S if usual is None else max(_SILENT_AFTER * usual, _SILENT_AT_LEAST_S)
    others = "" if usual is None else f", and others' epochs take about {duration(usual)}"
    silent = {row["trial"]: now - note.began.get(row["trial"], now) for row in training if row["epoch_s"] is None}
    return [
        f"trial {trial} has been running for {duration(since)} and reported no epoch{others}: its worker may hang"
        for trial, since in silent.items()
        if since > patience
    ]


def _unplaced(note: ClusterNote) -> list[str]:
    if not note.waiting or any(node.room for node in note.nodes):
        return []
    return [f"{note.waiting} jobs wait, and no node has room for a trial: an autoscaler has to add one (ray status)"]


def _given(node: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "node": node["host"],
        "CPUs in use": f"{node['cpus'] - node['free_cpus']:g} of {node['cpus']:g}",
        "GPUs in use": f"{node['gpus'] - node['free_gpus']:g} of {node['gpus']:g}",
        "kind": node["kind"],
        "room for trials": node["room"],
    }


def _ago(seconds: float | None) -> str | None:
    return None if seconds is None else f"{duration(seconds)} ago"


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as text, without control characters: lists joined by commas, columns with readable titles."""
    cells: dict[str, Any] = {}
    for name, value in row.items():
        title = {"silent_s": "last heard", "epoch_s": "an epoch, s"}.get(name, name)
        if isinstance(value, list):
            cells[title] = ", ".join(map(str, value))
        else:
            cells[title] = printable(value) if isinstance(value, str) else value
    return cells
