"""Tests the room that a cluster has for trials, and clusters of several nodes with simulated GPUs (`cluster_utils`)."""

import errno
import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from launch.errors import UserError
from launch.ray import connection, driver
from launch.ray.capacity import check_fits, room
from launch.ray.cluster import grows, nodes, worker_count
from launch.ray.note import ClusterNote, NodeNote, idle_gpus, leave, left
from launch.rundir.beginning import begin
from launch.rundir.config import Resources, RunConfig
from launch.rundir.run import open_run
from nas.costs import Conditions, CostModel
from nas.search import Engine, EpochRecord, Job, Journal, TrialRecord
from search_spaces import load_space
from trainers import DataConfig, Dataset, TrainerConfig, load_data

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

EIGHT = {"CPU": 64.0, "GPU": 8.0}
HEAD = {"CPU": 2.0}
H100 = {**EIGHT, "accelerator_type:H100": 1.0}
A100 = {**EIGHT, "accelerator_type:A100": 1.0}

EPOCHS, STEP_S, LIMIT_S = 4, 0.3, 600.0

Check = Callable[[Path, int], list[TrialRecord]]


def on_ray(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that starts Ray."""
    for mark in (pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.xdist_group("clusters")):
        test = mark(test)
    return test


def resources(cpus: float, gpus: float, kind: str | None = None) -> Resources:
    return Resources(cpus_per_trial=cpus, gpus_per_trial=gpus, accelerator=kind)


@pytest.mark.parametrize(
    ("cpus", "gpus", "kind", "nodes", "trials"),
    [
        (1, 0, None, [HEAD], 2),
        (1, 1, None, [EIGHT] * 4, 32),
        (1, 0.5, None, [EIGHT, HEAD], 16),
        (1, 0.4, None, [EIGHT], 16),  # a GPU holds two shares of 0.4, not two and a half
        (1, 1 / 3, None, [EIGHT], 24),
        (16, 1, None, [EIGHT], 4),  # the processors are what is short
        (65, 1, None, [EIGHT, EIGHT], 0),  # a trial never spans two nodes
        (0.5, 0, None, [HEAD], 4),
        (1, 1, None, [HEAD], 0),
        (1, 1, "H100", [H100, A100, EIGHT], 8),
        (1, 1, None, [H100, A100], 16),
    ],
)
def test_how_many_trials_fit(
    cpus: float, gpus: float, kind: str | None, nodes: list[dict[str, float]], trials: int
) -> None:
    assert room(resources(cpus, gpus, kind), nodes) == trials


@pytest.mark.parametrize(
    ("cpus", "gpus", "kind", "message"),
    [
        (
            65,
            0.5,
            None,
            "a trial asks for 65 CPUs and 0.5 GPUs, but no node of the cluster has them together (64 CPUs and 8 ",
        ),
        (
            1,
            1,
            "H100",
            "1 GPUs of kind H100, but no node of the cluster has them together (64 CPUs and 8 GPUs of kind A",
        ),
    ],
)
def test_a_trial_that_fits_nowhere_is_refused(cpus: float, gpus: float, kind: str | None, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        check_fits(resources(cpus, gpus, kind), [A100, HEAD], grows=lambda: False)
    assert len(str(raised.value).splitlines()) == 1


def test_one_that_fits_nowhere_yet_waits_for_the_autoscaler() -> None:
    waits = check_fits(resources(1, 1), [HEAD], grows=lambda: True)
    assert waits is not None
    assert waits.startswith("a trial asks for 1 CPUs and 1 GPUs, but no node of the cluster has them together (2 CPUs")
    assert "waiting for the autoscaler" in waits
    assert "Ctrl-C" in waits


def test_one_that_fits_on_one_node_is_not_refused() -> None:
    assert check_fits(resources(64, 1), [HEAD, EIGHT], grows=lambda: pytest.fail("it does not matter")) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gpus_per_trial": 1.5}, "gpus_per_trial is 1.5: a trial has a fraction of one GPU (below 1), or whole GPUs"),
        ({"accelerator": "H100"}, "accelerator is H100 and gpus_per_trial is 0"),
    ],
)
def test_requests_that_no_cluster_can_meet(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Resources(**given)


def node(**changes: object) -> NodeNote:
    full = {"host": "a", "kind": "", "cpus": 64.0, "free_cpus": 0.0, "gpus": 8.0, "free_gpus": 0.0, "room": 8}
    return NodeNote.model_validate({**full, **changes})


@pytest.mark.parametrize(
    ("given", "found", "to_come", "why"),
    [
        ({"gpus_per_trial": 1}, {}, 5, None),
        ({}, {"free_gpus": 8.0, "room": 64}, 5, "trials ask for none"),
        ({"gpus_per_trial": 1, "accelerator": "H100"}, {"free_gpus": 8.0, "room": 0, "kind": "A100"}, 5, "are kept to"),
        ({"gpus_per_trial": 1, "cpus_per_trial": 16}, {"free_gpus": 4.0, "room": 4}, 5, "enough for 4 trials of 16"),
        ({"gpus_per_trial": 0.4}, {"free_gpus": 1.6, "room": 16}, 5, "trials of 0.4 GPUs do not fill it"),
        ({"gpus_per_trial": 1, "workers": 6}, {"free_gpus": 2.0}, 5, "resources.workers is 6"),
        ({"gpus_per_trial": 1}, {"free_gpus": 2.0}, 0, "all trials are launched"),
        ({"gpus_per_trial": 1}, {"free_gpus": 2.0}, 5, "are being checked against the budget"),
    ],
)
def test_the_reason_for_idle_gpus(given: dict[str, Any], found: dict[str, Any], to_come: int, why: str | None) -> None:
    asked = Resources(**given)
    there = node(**found)
    wanted = asked.workers if asked.workers != "auto" else there.room
    note = ClusterNote(at=0.0, wanted=wanted, running=0, waiting=0, nodes=(there,))
    sentences = idle_gpus(note, asked, to_come)
    if why is None:
        assert sentences == []
    else:
        assert len(sentences) == 1
        assert sentences[0].startswith(f"a: {there.free_gpus:g} of 8 GPUs are idle: ")
        assert why in sentences[0]


def test_jobs_without_room_are_the_first_reason() -> None:
    note = ClusterNote(at=0.0, wanted=8, running=6, waiting=2, nodes=(node(free_gpus=2.0),))
    assert "2 jobs wait for Ray to place them" in idle_gpus(note, resources(1, 1), 0)[0]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"at": "x"}', pytest.param("[" * 100_000, id="deeply nested"), '{"at": NaN}']
)
def test_an_invalid_note_is_ignored(text: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(text)
    assert left(tmp_path) is None


def test_a_note_is_read_as_it_was_left(tmp_path: Path) -> None:
    note = ClusterNote(at=1.0, wanted=8, running=7, waiting=1, nodes=(node(),))
    leave(tmp_path, note)
    assert left(tmp_path) == note
    leave(tmp_path / "gone", note)  # a search continues without the note


def sleeper(hold: Path | None = None) -> type[Any]:
    """A worker that sleeps instead of training. The class is local to a function, so that Ray sends it by value.

    While a file `hold` exists, epochs end only at places whose names contain its text.
    """
    from ray import get_gpu_ids, get_runtime_context, tune

    class Sleeper(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any], **shared: object) -> None:
            self.place = f"{get_runtime_context().get_node_id()}/{','.join(map(str, get_gpu_ids()))}"
            self.reset_config(config)

        def held(self) -> bool:
            try:
                return hold is not None and hold.read_text() not in self.place
            except FileNotFoundError:
                return False

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.job = json.loads(new_config["job"])
            self.epoch = self.job["start_epoch"]
            return True

        def step(self) -> dict[str, Any]:
            time.sleep(STEP_S)
            while self.held():
                time.sleep(0.1)
            self.epoch += 1
            record = {
                "epoch": self.epoch,
                "metrics": {"top1": min(0.9, 0.1 * self.epoch + 0.01 * (self.job["number"] % 10)), "loss": 1.0},
                "lr": 0.1,
                "seconds": STEP_S,
                "node": self.place,
                "worker": os.getpid(),
                "ended": time.time(),
            }
            done = self.epoch >= self.job["stop_epoch"]
            report = {"record": record, "outcome": {"kind": "reached"} if done else None}
            return {"payload": json.dumps(report), "done": done}

    return Sleeper


@contextmanager
def searching(
    folder: Path,
    resources: Resources,
    trials: int,
    dataset: Dataset | None = None,
    trainer: TrainerConfig | None = None,
) -> Iterator[tuple[Engine, Callable[..., None]]]:
    """The engine of a new run, and a function that runs it on the cluster."""
    config = RunConfig.model_validate(
        {
            "space": "shapes",
            "objectives": ("top1", "macs"),
            "search": {"trials": trials, "sampler": "random", "eta": 2, "decide": 0},
        }
    )
    run = begin(folder, config, load_space("shapes"))
    deadline = time.monotonic() + LIMIT_S
    with Journal.open(run.folder) as journal, connection.connected(resources):
        engine = Engine(
            journal, run.space, config.search, objectives=run.objectives, epochs=EPOCHS, costs=CostModel(Conditions())
        )

        def work(on_tick: Callable[[], None] = lambda: None) -> None:
            def bounded() -> None:
                assert time.monotonic() < deadline, engine.summary()
                on_tick()

            driver.run(engine, driver.Plan(run.folder, cast(Any, dataset), cast(Any, trainer), resources), bounded)

        yield engine, work


def places(trials: list[TrialRecord]) -> Counter[str]:
    """Node and GPUs -> epochs trained there."""
    return Counter(str(record.node) for trial in trials for record in trial.epochs.values())


def in_turn(run: Path, hold: Path, *turns: Callable[[], str]) -> Callable[[], None]:
    """A tick function: the places that the turns name train an epoch one after the other; then all places train."""
    to_come = list(turns)
    hold.write_text(to_come.pop(0)())

    def on_tick() -> None:
        if hold.exists() and any(hold.read_text() in place for place in places(open_run(run)[1])):
            if to_come:
                hold.write_text(to_come.pop(0)())
            else:
                hold.unlink()

    return on_tick


@on_ray
def test_losing_and_adding_a_node_loses_and_repeats_nothing(
    cluster: "Cluster", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check_complete: Check
) -> None:
    run, hold = tmp_path / "run", tmp_path / "hold"
    monkeypatch.setattr(driver, "Worker", sleeper(hold))
    staying, going = (cluster.add_node(num_cpus=2, num_gpus=gpus) for gpus in (1, 2))
    asked = Resources(gpus_per_trial=1, address=cluster.address)

    def change() -> str:
        cluster.remove_node(going)
        assert worker_count(asked) == 1
        return str(cluster.add_node(num_cpus=2, num_gpus=1).node_id)

    with searching(run, asked, 20) as (_, work):
        assert worker_count(asked) == 3
        work(in_turn(run, hold, lambda: str(staying.node_id), lambda: str(going.node_id), change))
    assert len({place.split("/")[0] for place in places(check_complete(run, 20))}) == 3


@on_ray
@pytest.mark.repeated
@pytest.mark.parametrize("kills", [2, 10])
@pytest.mark.parametrize("what", ["worker", "node"])
def test_random_deaths_lose_and_repeat_nothing(
    cluster: "Cluster", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check_complete: Check, what: str, kills: int
) -> None:
    monkeypatch.setattr(driver, "Worker", sleeper())
    nodes = [cluster.add_node(num_cpus=2, num_gpus=2) for _ in range(2)]
    asked = Resources(gpus_per_trial=1, address=cluster.address)
    run, rng, killed = tmp_path / "run", random.Random(0), set[Any]()
    trials, at = 8 * kills, 3

    def one_worker_dies() -> None:
        records = [record for trial in open_run(run)[1] for record in trial.epochs.values()]
        recent = sorted(records, key=lambda record: record.ended or 0.0)[-4:]
        worker = rng.choice([record.worker for record in recent if record.worker not in killed] or [None])
        if worker is not None:
            with suppress(ProcessLookupError):  # it has ended: its job was another's
                os.kill(worker, signal.SIGKILL)
                killed.add(worker)

    def one_node_dies() -> None:
        going = nodes.pop(rng.randrange(len(nodes)))
        cluster.remove_node(going)
        killed.add(going)
        nodes.append(cluster.add_node(num_cpus=2, num_gpus=2))

    with searching(run, asked, trials) as (engine, work):

        def on_tick() -> None:
            nonlocal at
            if len(killed) < kills and engine.summary().epochs >= at:
                time.sleep(rng.random() * STEP_S)
                one_worker_dies() if what == "worker" else one_node_dies()
                at = engine.summary().epochs + rng.randint(1, 5)

        work(on_tick)
    assert len(killed) == kills
    check_complete(run, trials)


@on_ray
def test_two_trials_share_each_gpu(
    cluster: "Cluster", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check_complete: Check
) -> None:
    run, hold = tmp_path / "run", tmp_path / "hold"
    monkeypatch.setattr(driver, "Worker", sleeper(hold))
    cluster.add_node(num_cpus=4, num_gpus=2)
    asked = Resources(gpus_per_trial=0.5, address=cluster.address)
    with searching(run, asked, 16) as (_, work):
        assert worker_count(asked) == 4
        work(in_turn(run, hold, lambda: "/0", lambda: "/1"))
    assert {place.split("/")[1] for place in places(check_complete(run, 16))} == {"0", "1"}


@on_ray
def test_trials_are_kept_to_a_kind(
    cluster: "Cluster", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check_complete: Check
) -> None:
    import ray

    monkeypatch.setattr(driver, "Worker", sleeper())
    for kind in ("A100", "H100"):
        cluster.add_node(num_cpus=2, num_gpus=1, resources={f"accelerator_type:{kind}": 1})
    asked = Resources(gpus_per_trial=1, accelerator="H100", address=cluster.address)
    with searching(tmp_path / "run", asked, 6) as (_, work):
        assert worker_count(asked) == 1
        with pytest.raises(UserError, match="1 GPUs of kind B200, but no node"):
            check_fits(resources(1, 1, "B200"), nodes(), grows)
        named = {node["NodeID"] for node in ray.nodes() if "accelerator_type:H100" in node["Resources"]}
        work()
    trials = check_complete(tmp_path / "run", 6)
    assert {place.split("/")[0] for place in places(trials)} == named
    note = left(tmp_path / "run")
    assert note is not None
    assert {"A100", "H100"} <= {node.kind for node in note.nodes}


def on_cpus() -> type[Any]:
    """The real worker, on a CPU instead of its GPU. The class is local to a function, so that Ray sends it by value."""
    from launch.ray.worker import Worker

    class OnCpus(Worker):
        def setup(self, config: dict[str, Any], **shared: Any) -> None:
            super().setup(config, **{**shared, "device": "cpu"})

    return OnCpus


@on_ray
def test_a_trial_trains_on_two_gpus(
    cluster: "Cluster", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check_complete: Check
) -> None:
    """There are three simulated GPUs, and one trial at a time uses two of them. Its processes are real."""
    monkeypatch.setattr(driver, "Worker", on_cpus())
    cluster.add_node(num_cpus=2, num_gpus=3)
    asked = Resources(cpus_per_trial=2, gpus_per_trial=2, address=cluster.address)
    data = load_data(DataConfig.model_validate({"name": "shapes", "train_size": 32, "val_size": 16}))
    trainer = TrainerConfig.model_validate({"epochs": EPOCHS, "batch_size": 16})
    folder = tmp_path / "run"
    taken = set()
    with searching(folder, asked, 5, data, trainer) as (_, work):
        assert worker_count(asked) == 1

        def on_tick() -> None:
            if (note := left(folder)) is not None and note.running:
                taken.update(node.gpus - node.free_gpus for node in note.nodes if node.gpus)

        work(on_tick)
    check_complete(folder, 5)
    assert max(taken) == 2
    assert not list((folder / "checkpoints").glob(".*"))


def failing_once(fault: Path) -> type[Any]:
    """A worker whose second epoch meets a full disk, once; its process is then named in the file `fault`."""
    from launch.ray.worker import Worker

    class Replica:
        """Counts epochs instead of training."""

        def open(self, job: Job) -> list[EpochRecord]:
            self.epochs = job.start_epoch
            return []

        def epoch(self) -> EpochRecord:
            self.epochs += 1
            if self.epochs == 2 and not fault.exists():
                fault.write_text(str(os.getpid()))
                raise OSError(errno.ENOSPC, "No space left on device")
            return EpochRecord(self.epochs, {"top1": 0.1 * self.epochs, "loss": 1.0}, 0.1, 0.1, os.getpid())

        def close(self) -> None:
            pass

    class Failing(Worker):
        def setup(self, config: dict[str, Any], *shared: Any, **settings: Any) -> None:
            self._replica = cast(Any, Replica())
            self.reset_config(config)

    return Failing


@on_ray
def test_a_process_takes_no_job_after_a_fault_of_the_machine(
    cluster: "Cluster", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check_complete: Check
) -> None:
    run, fault = tmp_path / "run", tmp_path / "fault"
    monkeypatch.setattr(driver, "Worker", failing_once(fault))
    cluster.add_node(num_cpus=1)
    with searching(run, Resources(address=cluster.address), 5) as (_, work):
        work()
    records = [record for trial in check_complete(run, 5) for record in trial.epochs.values()]
    assert [record.epoch for record in records if record.worker == int(fault.read_text())] == [1]
    assert len({record.worker for record in records}) == 2
