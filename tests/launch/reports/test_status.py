"""Tests the status of a run, which is read only from its journal."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from launch import cli
from launch.ray.note import ClusterNote, NodeNote, leave
from launch.reports.status import show, status
from launch.rundir.config import RunConfig
from launch.rundir.run import Run, open_run
from nas.search import EpochRecord, TrialRecord
from nas.search.records import Origin
from search_spaces import load_space

NOW = 1_000_000.0
PLAN = load_space("shapes").plain().to_dict()


def record(epoch: int, ended: float, worker: int = 7, node: str = "a", seconds: float = 10.0) -> EpochRecord:
    return EpochRecord(epoch, {"top1": 0.5}, 0.1, seconds, worker, node, ended)


def trial(number: int, status: str, stop: int, *epochs: EpochRecord, origin: str = "sampler") -> TrialRecord:
    return TrialRecord(
        number=number,
        status=status,  # type: ignore[arg-type]
        ended=status != "active",
        origin=Origin.parse(origin),
        fingerprint=str(number),
        seed=0,
        bracket=0,
        stop_epoch=stop,
        epochs={epoch.epoch: epoch for epoch in epochs},
        costs={},
        budget=None,
        rejected_by="static" if status == "rejected" else None,
        values=None,
        duplicate_of=None,
        reason="",
        params={},
        plan=None if status == "rejected" else PLAN,
    )


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    """A run of 12 trials with 4 epochs and eta 2; its driver is running."""
    opened, _ = open_run(make_run(jobs=0).folder)
    (opened.folder / "driver.json").write_text(json.dumps({"pid": os.getpid(), "host": os.uname().nodename}))
    return opened


def test_status_of_running_and_waiting_trials(run: Run) -> None:
    trials = [
        trial(0, "complete", 4, *(record(e, NOW - 100 + 10 * e) for e in (1, 2, 3, 4)), origin="hand:plain"),
        trial(1, "active", 2, *(record(e, NOW - 100 + 10 * e, 8, "b") for e in (1, 2))),  # waits at its rung
        trial(2, "active", 4, *(record(e, NOW - 60 + 10 * e, 8, "b") for e in (1, 2, 3))),  # trains on node b
        trial(3, "active", 2, record(1, NOW - 70, 8, "b")),  # its worker has told of another trial since
        trial(4, "active", 2),  # nothing heard yet
        trial(5, "rejected", 0),
    ]
    found = status(run, trials, now=NOW)
    assert found["state"] == "running"
    assert found["driver"]["pid"] == os.getpid()
    assert found["rejected"] == {"static": 1}
    assert found["trials"]["launched"] == 5
    assert found["epochs"] == 10
    assert found["silent_s"] == 30
    assert [(row["trial"], row["node"], row["worker"], row["epoch"], row["to"]) for row in found["training"]] == [
        (2, "b", 8, 3, 4),
        (3, None, None, 1, 2),
        (4, None, None, 0, 2),
    ]
    assert found["waiting"] == [{"epoch": 2, "trials": [1], "reached": 3, "promoted": "one in 2"}]
    assert [(row["node"], row["workers"]) for row in found["nodes"]] == [("a", 1), ("b", 1)]
    assert all(0 < row["busy"] <= 1 for row in found["nodes"])


def test_the_time_left_follows_the_pace_of_the_last_epochs(run: Run) -> None:
    """6 epochs took 50 s. A pause of a day before them, without a driver, does not count."""
    trials = [
        trial(0, "stopped", 2, record(1, NOW - 90_000), record(2, NOW - 50)),
        trial(1, "stopped", 2, record(1, NOW - 40), record(2, NOW - 30)),
        trial(2, "active", 4, record(1, NOW - 20), record(2, NOW - 10), record(3, NOW)),
    ]
    found = status(run, trials, now=NOW)
    assert found["pace"] == pytest.approx(60 * 5 / 50)
    assert found["left_s"] == pytest.approx((1 + 9 * 2) / (5 / 50))


def test_silent_and_idle_workers_are_reported(run: Run) -> None:
    silent = trial(0, "active", 4, record(1, NOW - 600))
    idle = trial(1, "complete", 4, *(record(e, NOW - 40 + 10 * e, 8, "b") for e in (1, 2, 3, 4)))
    warnings = status(run, [silent, idle], now=NOW)["warnings"]
    assert any("trial 0" in line and "10 min 00 s ago" in line for line in warnings)
    assert any(line.startswith("1 of 2 workers have nothing to train") for line in warnings)


@pytest.mark.parametrize(
    ("others", "since", "warned"),
    [
        ((), 500, None),
        ((), 700, "trial 4 has been running for 11 min 40 s and reported no epoch: its worker may hang"),
        ((record(1, NOW - 5),), 50, None),
        (
            (record(1, NOW - 5),),
            90,
            "1 min 30 s and reported no epoch, and others' epochs take about 10 s: its worker may",
        ),
    ],
)
def test_a_worker_that_hangs_in_its_first_epoch_is_reported(
    others: tuple[EpochRecord, ...], since: float, warned: str | None, run: Run
) -> None:
    leave(run.folder, ClusterNote(at=NOW, wanted=2, running=2, waiting=0, nodes=(), began={4: NOW - since}))
    warnings = status(run, [trial(0, "active", 4, *others), trial(4, "active", 2)], now=NOW)["warnings"]
    told = [line for line in warnings if "reported no epoch" in line]
    assert len(told) == (warned is not None)
    assert all(str(warned) in line for line in told)


def test_rays_allocation_and_idle_gpus(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """While a driver runs, the status uses its note. Here there are two GPUs, but trials ask for none."""
    node = NodeNote(host="a", kind="H100", cpus=8.0, free_cpus=2.0, gpus=2.0, free_gpus=2.0, room=8)
    leave(run.folder, ClusterNote(at=NOW, wanted=8, running=6, waiting=0, nodes=(node,)))
    found = status(run, [trial(0, "active", 4)], now=NOW + 5)
    assert found["cluster"]["nodes"][0]["free_gpus"] == 2
    assert any(line.startswith("a: 2 of 2 GPUs are idle: trials ask for none") for line in found["warnings"])
    show(Console(width=120, markup=False), found)
    printed = capsys.readouterr().out
    assert "6 of 8" in printed
    assert "H100" in printed
    assert status(run, [trial(0, "active", 4)], now=NOW + 600)["cluster"] is None  # of another time


def test_jobs_that_no_node_has_room_for(run: Run) -> None:
    leave(run.folder, ClusterNote(at=NOW, wanted=1, running=0, waiting=1, nodes=()))
    warnings = status(run, [trial(0, "active", 4)], now=NOW)["warnings"]
    assert any(line.startswith("1 jobs wait, and no node has room for a trial") for line in warnings)


@pytest.mark.parametrize("holder", [None, {"pid": 2**22 + 1, "host": os.uname().nodename}, "x", {"pid": "p"}])
def test_a_driver_that_is_not_there(holder: object, make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run(jobs=3).folder)
    if holder is not None:
        (run.folder / "driver.json").write_text(json.dumps(holder))
    found = status(run, trials)
    assert found["driver"] is None
    assert found["state"] == "stopped"
    assert found["left_s"] is None


def test_a_run_that_is_done(make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run()
    assert cli.run(["status", str(run.folder), "--json"]) == cli.SUCCESS
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == "done"
    assert found["trials"]["launched"] == found["trials"]["target"] == 12
    assert cli.run(["status", str(run.folder)]) == cli.SUCCESS
    assert "12 of 12 launched" in capsys.readouterr().out


def test_baselines_that_are_more_than_the_trials_raise_the_target(
    config: RunConfig, make_run: Callable[..., Run], finish_run: Callable[[Path], Run]
) -> None:
    """They are trained all the same, so a run that lacks some is not done."""
    search = config.search.model_copy(update={"trials": 2, "decide": 0.0})
    folder = make_run(jobs=3, settings=config.model_copy(update={"search": search})).folder
    found = status(*open_run(folder))
    assert (found["trials"]["launched"], found["state"]) == (3, "stopped")
    finish_run(folder)
    after = status(*open_run(folder))
    assert found["trials"]["target"] >= after["trials"]["target"] == after["trials"]["launched"] > 3
    assert after["state"] == "done"


def test_it_is_printed_for_people(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(jobs=3)
    assert cli.run(["status", str(run.folder)]) == cli.SUCCESS
    printed = capsys.readouterr().out
    assert "stopped" in printed
    assert "nas resume continues the run" in printed


def test_it_needs_no_ray(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run(jobs=1)
    code = (
        "import sys; sys.modules['ray'] = None; from launch import cli; "
        f"sys.exit(cli.run(['status', {str(run.folder)!r}]))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, timeout=120)
