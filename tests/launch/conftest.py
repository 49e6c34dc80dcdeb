"""Makes runs with the engine alone, in milliseconds: tests of the command line need no training."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from launch import cli
from launch.rundir.beginning import begin
from launch.rundir.config import RunConfig
from launch.rundir.run import LIMITS, MEASURED, Run, open_run
from nas.analysis import front_of
from nas.costs import Budget, Conditions, CostModel
from nas.search import Engine, EpochRecord, Job, Journal, Outcome, TrialRecord, read_trials
from search_spaces import load_space

EPOCHS = 4
CONFIG = {
    "data": {"name": "shapes", "train_size": 64, "val_size": 32},
    "trainer": {"epochs": EPOCHS, "batch_size": 32},
    "objectives": ["top1", "macs"],
    "budget": {"macs": "1.2x", "params": "2x"},
    "search": {"trials": 12, "eta": 2, "sampler": "random", "decide": 0.5},
}


def accuracy(job: Job, epoch: int) -> float:
    """An accuracy that grows with the epoch and with the number of places with attention."""
    placed = sum(len(slots) for slots in job.architecture.placements.values())
    return min(0.99, 0.2 + 0.05 * epoch + 0.08 * placed + 0.001 * job.seed)


def train(
    engine: Engine,
    jobs: int | None = None,
    accuracy: Callable[[Job, int], float] = accuracy,
    seconds: float = 0.5,
) -> None:
    """Completes jobs as a driver would: all, or the given number. Accuracies and times of epochs are invented."""
    while not engine.done and jobs != 0:
        job = engine.next()
        if job is None:
            continue
        for epoch in range(job.start_epoch + 1, job.stop_epoch + 1):
            figures = {"top1": accuracy(job, epoch), "loss": 1.2 / epoch, "train_loss": 1 / epoch}
            engine.report(job, EpochRecord(epoch, figures, 0.1, seconds))
        engine.finish(job, Outcome("reached"))
        jobs = None if jobs is None else jobs - 1


@pytest.fixture
def config() -> RunConfig:
    return RunConfig.model_validate_json(json.dumps(CONFIG))


def worked_off(folder: Path, config: RunConfig, jobs: int | None = None) -> Run:
    """A run in a folder, with the given number of jobs completed (default: all) at invented accuracies."""
    begin(folder, config, load_space("shapes"))
    return go_on(folder, jobs)


def first_two(trials: Sequence[TrialRecord], *, left: int, running: Mapping[int, int]) -> int | None:  # the protocol
    """Trains the first two complete trials again, in turn."""
    complete = [t.number for t in trials if t.status == "complete" and t.plan and not t.origin.is_finalist]
    times = Counter(t.origin.trial for t in trials if t.origin.is_finalist)
    return min(complete[:2], key=lambda number: (times[number], number), default=None)


def engine_of(journal: Journal, run: Run, **settings: Any) -> Engine:
    """The engine of a run; `settings` are arguments of `Engine`."""
    settings = {
        "epochs": run.config.trainer.epochs,
        "costs": CostModel(Conditions()),
        "decide": first_two,
        **settings,
    }
    return Engine(journal, run.space, run.config.search, objectives=run.objectives, **settings)


@pytest.fixture
def make_engine() -> Callable[..., Engine]:
    """Makes the engine of a run, as `engine_of`."""
    return engine_of


def go_on(folder: Path, jobs: int | None = None) -> Run:
    """Continues a run for the given number of jobs, by default to its end."""
    run, _ = open_run(folder)
    costs = CostModel(Conditions())
    with Journal.open(run.folder) as journal:
        budget = Budget.parse(run.config.budget, plain=run.space.plain(), costs=costs)
        engine = engine_of(journal, run, costs=costs, budget=budget)
        journal.study.set_user_attr(LIMITS, dict(budget.limits))
        train(engine, jobs)
        for trial in front_of(read_trials(journal.study), run.objectives):
            figures = {"macs": asdict(costs.estimate(trial.architecture, "macs"))}
            journal.study.set_user_attr(f"{MEASURED}{trial.number}", figures)
    return run


@pytest.fixture
def train_jobs() -> Callable[..., None]:
    """Completes an engine's jobs, as `train`."""
    return train


@pytest.fixture
def finish_run() -> Callable[[Path], Run]:
    """Continues a run to its end, with invented accuracies."""
    return go_on


@pytest.fixture
def make_run(tmp_path: Path, config: RunConfig) -> Callable[..., Run]:
    """Makes a run by `worked_off` in the test's own folder."""

    def make(name: str = "run", jobs: int | None = None, settings: RunConfig = config) -> Run:
        return worked_off(tmp_path / name, settings, jobs)

    return make


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run that the tests of a module read; they change only copies."""
    return worked_off(tmp_path_factory.mktemp("whole") / "run", RunConfig.model_validate_json(json.dumps(CONFIG)))


@pytest.fixture
def check_complete() -> Callable[[Path, int], list[TrialRecord]]:
    """Checks that a run launched the given number of trials, that all ended, and that no epoch is missing.

    Returns the trials.
    """

    def check(folder: Path, trials: int) -> list[TrialRecord]:
        _, found = open_run(folder)
        launched = [trial for trial in found if trial.plan is not None]
        assert len(launched) == trials
        assert all(trial.status in ("complete", "stopped") for trial in launched)
        assert all(sorted(trial.epochs) == list(range(1, trial.last_epoch + 1)) for trial in launched)
        told: Counter[tuple[int, str]] = Counter()
        for line in (folder / "journal.log").read_text().splitlines():
            entry = json.loads(line)
            told.update((entry["trial_id"], name) for name in entry.get("user_attr", {}) if name.startswith("epoch:"))
        assert set(told.values()) == {1}
        return launched

    return check


# --- a SLURM of one machine

STUBS = {
    # Long options with a value, and flags. The command starts once per task. A signal reaches all processes of a step.
    "srun": """\
set -m
tasks=1
while [ $# -gt 0 ]; do
  case $1 in
    --ntasks=*) tasks=${1#*=}; shift ;;
    --*) shift ;;
    *) break ;;
  esac
done
children=()
trap 'kill -TERM "${children[@]/#/-}"; wait; exit 143' TERM
for ((task = 0; task < tasks; task++)); do "$@" & children+=($!); done
wait
""",
    "scontrol": """\
case $1 in
  show) printf '%s\\n' node{1..20000} ;;
  requeue) echo "$2" >> "$SLURM_STUB/requeued" ;;
esac
""",
    # The job runs at once, beside its submission.
    "sbatch": """\
export SLURM_JOB_ID=4711 SLURM_JOB_NODELIST='node[1-20000]' SLURM_CPUS_ON_NODE=1
echo "Submitted batch job $SLURM_JOB_ID"
setsid bash "$1" >> "$SLURM_STUB/log" 2>&1 < /dev/null &
echo $! > "$SLURM_STUB/pid"
""",
    "hostname": "echo 127.0.0.1\n",
    "nas": f'exec {sys.executable} -m launch.cli "$@"\n',
    "ray": f'exec {Path(sys.executable).parent / "ray"} "$@"\n',
}


@dataclass(frozen=True)
class SlurmStub:
    """The commands of SLURM as stubs. A job runs at once, beside its submission, in the current folder."""

    folder: Path

    def log(self) -> str:
        """What the job has printed."""
        return (self.folder / "log").read_text()

    def submit(self, *arguments: str) -> None:
        """Writes the script of a search and submits it."""
        assert cli.run(["launch", "slurm", *arguments, "--submit", "-o", "job.sbatch"]) == cli.SUCCESS

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Waits until the job has come so far; it must not end before."""
        self._wait_until(lambda: self._over() or condition())
        assert not self._over(), self.log()

    def near_its_time_limit(self) -> None:
        """Sends USR1 to the job, which must end and requeue itself."""
        os.kill(self._job(), signal.SIGUSR1)
        self._wait_until(self._over)
        assert (self.folder / "requeued").read_text() == "4711\n", self.log()

    def requeue(self) -> None:
        """Starts the script again and waits for its end."""
        subprocess.run(["sbatch", "job.sbatch"], check=True)
        self._wait_until(self._over)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 600
        while not condition():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def _job(self) -> int:
        return int((self.folder / "pid").read_text())

    def _over(self) -> bool:
        try:
            os.kill(self._job(), 0)
        except ProcessLookupError:
            return True
        return Path(f"/proc/{self._job()}/stat").read_text().split()[2] == "Z"


@pytest.fixture
def one_machine_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmStub:
    """A SLURM whose jobs run in the test's own folder, which becomes the current one."""
    stubs = tmp_path / "bin"
    stubs.mkdir()
    for name, text in STUBS.items():
        (stubs / name).write_text(f"#!/bin/bash\n{text}")
        (stubs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{stubs}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STUB", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert shutil.which("sbatch") == str(stubs / "sbatch")
    return SlurmStub(tmp_path)


@pytest.fixture(autouse=True)
def _draws_little(few_sweeps: None) -> None:
    """These tests are not about the figures of a run's model."""
