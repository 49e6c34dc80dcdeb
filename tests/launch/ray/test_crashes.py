"""Kills parts of real searches on Ray: the run always ends as if nothing had happened.

Each search trains real networks on a few pictures, so a trial takes a second and can be killed at many points.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from launch.rundir.run import open_run
from nas.search import TrialRecord

if TYPE_CHECKING:
    from conftest import SlurmStub

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.xdist_group("killed")]

TRIALS, EPOCHS = 8, 3
RUN_FILE = {
    "space": "shapes",
    "data": {"name": "shapes", "train_size": 96, "val_size": 48},
    "trainer": {"epochs": EPOCHS, "batch_size": 32},
    "objectives": ["top1", "macs"],
    "budget": {"params": "2x"},
    "search": {
        "trials": TRIALS,
        "sampler": "random",
        "eta": 2,
        "min_epochs": 1,
        "decide": 1,
    },
    "resources": {"workers": 2},
}
LIMIT_S = 600


def nas(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Runs a command in its own session, so that all its processes can be ended together."""
    return subprocess.Popen(
        [sys.executable, "-m", "launch.cli", *arguments],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run.yaml").write_text(json.dumps(RUN_FILE))
    return tmp_path


def finish(folder: Path) -> None:
    """Resumes until the run is done."""
    process = nas(folder, "resume", "run")
    out, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, out


def epochs_told(folder: Path) -> int:
    journal = folder / "run" / "journal.log"
    return journal.read_text(errors="replace").count('"epoch:') if journal.exists() else 0


def wait_for(folder: Path, process: "subprocess.Popen[str]", epochs: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while epochs_told(folder) < epochs and process.poll() is None:
        assert time.monotonic() < deadline, "the search does not get on"
        time.sleep(0.02)


def head_of(process: "subprocess.Popen[str]") -> list[int]:
    """The process of Ray that a session needs, if it has started."""
    listed = subprocess.run(
        ["pgrep", "gcs_server", "--session", str(process.pid)], check=False, capture_output=True, text=True
    )
    return [int(line) for line in listed.stdout.split()]


def kill_head(process: "subprocess.Popen[str]", pause: float = 0.0) -> None:
    """Kills Ray's head so many seconds after it has begun. The driver then ends with an error."""
    while not (heads := head_of(process)) and process.poll() is None:
        time.sleep(0.1)
    time.sleep(pause)
    for head in heads:
        os.kill(head, signal.SIGKILL)
    out, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode != 0, out


Check = Callable[[int], None]


@pytest.fixture
def check(folder: Path, check_complete: Callable[[Path, int], list[TrialRecord]]) -> Check:
    """Checks that a search with the given number of trials is complete, and that no repetition was done twice."""

    def check(trials: int) -> None:
        told = open_run(folder / "run")[1]
        again = [trial for trial in told if trial.origin.is_finalist]
        assert len({(trial.origin, trial.seed) for trial in again}) == len(again)
        launched = check_complete(folder / "run", trials + len(again))
        assert all(trial.ended for trial in told)
        searched = [trial for trial in launched if not trial.origin.is_finalist]
        assert {trial.origin.name for trial in searched} >= {"plain", "se", "cbam", "aa", "aw"}
        assert len({trial.fingerprint for trial in searched}) == len(searched) == trials
        assert {trial.last_epoch for trial in launched if trial.status == "complete"} == {EPOCHS}

    return check


def a_worker_of(folder: Path) -> int:
    """The process of a worker that has reported an epoch."""
    _, trials = open_run(folder / "run")
    worker = max((record.ended or 0.0, record.worker) for trial in trials for record in trial.epochs.values())[1]
    assert worker is not None
    return worker


def tear(folder: Path) -> None:
    """Leaves an incomplete write, as a power failure does."""
    with (folder / "run" / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code": 8, "trial_')
    open_run(folder / "run")  # readable as it is


def begin_under_slurm(slurm: "SlurmStub", folder: Path, epochs: int, setting: str, *options: str) -> None:
    """Begins a run; a worker dies after three epochs, and SLURM's time limit comes after so many."""
    slurm.submit("run.yaml", "--run", "run", *options, "--set", setting)
    slurm.wait_until(lambda: epochs_told(folder) >= 3)
    os.kill(a_worker_of(folder), signal.SIGKILL)
    slurm.wait_until(lambda: epochs_told(folder) >= epochs)
    slurm.near_its_time_limit()


def end_under_slurm(slurm: "SlurmStub", folder: Path, check: Check, trials: int) -> None:
    """SLURM starts an unfinished run again; it is then complete, and no epoch was trained again."""
    before = open_run(folder / "run")[1]
    assert not all(trial.ended for trial in before)
    slurm.requeue()
    check(trials)
    after = open_run(folder / "run")[1]
    for trial in before:
        epochs = {number: record.ended for number, record in after[trial.number].epochs.items()}
        assert {number: record.ended for number, record in trial.epochs.items()}.items() <= epochs.items()


def test_slurms_time_limit_and_the_death_of_a_worker(
    one_machine_slurm: "SlurmStub", folder: Path, check: Check
) -> None:
    """SLURM begins a run, stops it near its time limit, and requeues it; a worker dies before that."""
    trials = TRIALS - 2
    begin_under_slurm(one_machine_slurm, folder, 5, f"search.trials={trials}")
    end_under_slurm(one_machine_slurm, folder, check, trials)


@pytest.mark.repeated
def test_slurms_time_limit_deaths_of_worker_driver_and_head_and_ctrl_c(
    one_machine_slurm: "SlurmStub", folder: Path, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ways in which a run ends early, in one run.

    SLURM begins the run on two nodes, it continues on this machine alone, and SLURM ends it.
    """
    trials = 2 * TRIALS
    begin_under_slurm(one_machine_slurm, folder, 6, f"search.trials={trials}", "--nodes", "2")

    resume = ("resume", "run", "--address", "local")
    process = nas(folder, *resume)
    wait_for(folder, process, epochs_told(folder) + 2)
    process.kill()
    process.communicate(timeout=LIMIT_S)
    tear(folder)

    with monkeypatch.context() as patch:
        patch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "1")  # else Ray ends us after a minute
        process = nas(folder, *resume)
        wait_for(folder, process, epochs_told(folder) + 1)
        kill_head(process)

    process = nas(folder, *resume)
    wait_for(folder, process, epochs_told(folder) + 1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, out
    assert "Continue with: nas resume run" in out
    assert "Traceback" not in out

    end_under_slurm(one_machine_slurm, folder, check, trials)


@pytest.mark.repeated
def test_three_kills_of_the_driver_change_nothing(folder: Path, check: Check) -> None:
    rng = random.Random(0)
    told = 0
    for kill in range(3):
        process = nas(folder, "search", "run.yaml", "--run", "run") if kill == 0 else nas(folder, "resume", "run")
        wait_for(folder, process, told + rng.randint(2, 5))
        time.sleep(rng.random() / 2)
        process.kill()
        process.communicate(timeout=LIMIT_S)
        told = epochs_told(folder)
    tear(folder)
    finish(folder)
    check(TRIALS)


@pytest.mark.repeated
def test_a_dead_worker_loses_only_its_epoch(folder: Path, check: Check) -> None:
    process = nas(folder, "search", "run.yaml", "--run", "run")
    wait_for(folder, process, 3)
    os.kill(a_worker_of(folder), signal.SIGKILL)
    out, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, out
    check(TRIALS)


@pytest.mark.repeated
@pytest.mark.parametrize("deaths", [2, 10])
def test_deaths_of_rays_head_at_random_moments_change_nothing(
    folder: Path, check: Check, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "1")  # else Ray ends us after a minute
    rng, trials = random.Random(0), max(TRIALS, 2 * deaths)
    begin = ("search", "run.yaml", "--run", "run", "--set", f"search.trials={trials}")
    for death in range(deaths):
        told = epochs_told(folder)
        process = nas(folder, *(("resume", "run") if death else begin))
        wait_for(folder, process, told + rng.randint(0, 1))
        kill_head(process, pause=rng.random())
    finish(folder)
    check(trials)


@pytest.mark.repeated
def test_ctrl_c_stops_cleanly_and_says_how_to_continue(folder: Path, check: Check) -> None:
    process = nas(folder, "search", "run.yaml", "--run", "run")
    wait_for(folder, process, 2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, out
    assert "Continue with: nas resume run" in out
    assert "Traceback" not in out
    finish(folder)
    check(TRIALS)
