"""Tests the adapter between Tune and the engine, and the settings of a worker, without Ray."""

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from launch.errors import Interrupted, UserError
from launch.ray import adapter, internals
from launch.ray.connection import address_of, connected
from launch.ray.worker import Worker
from launch.rundir import names
from launch.rundir.beginning import begin
from launch.rundir.config import Resources, RunConfig
from nas.search import Engine, Journal
from search_spaces import load_space
from trainers import DataConfig, TrainerConfig, load_data


@pytest.mark.parametrize(
    ("kept", "given", "address"),
    [
        (None, None, None),
        ("auto", None, "auto"),
        ("auto", "local", None),
        ("10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.2:6379"),
        (None, "auto", "auto"),
    ],
)
def test_the_cluster_on_which_a_run_continues(kept: str | None, given: str | None, address: str | None) -> None:
    assert address_of(kept, given) == address


def test_ray_client_is_refused() -> None:
    with pytest.raises(UserError, match="cannot run through Ray Client; start it on a machine of the cluster"):
        address_of(None, "ray://a:10001")


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:{port}", "no.such.host:6379"])
def test_an_address_without_ray_is_one_line(address: str) -> None:
    """Ray itself tries for eight minutes."""
    with socket.socket() as bound:  # bound and not listening: it refuses connections
        bound.bind(("", 0))
        address = address.format(port=bound.getsockname()[1])
        with pytest.raises(UserError) as raised, connected(Resources(address=address)):
            pass
    assert str(raised.value).startswith(f"cannot connect to a Ray cluster at {address}: ")
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_rays_start_stops_the_search(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internals, "start", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(Interrupted), connected(Resources()):
        pytest.fail("the search began")


@pytest.fixture
def make_worker(tmp_path: Path) -> Callable[..., Worker]:
    def make(**settings: object) -> Worker:
        data = load_data(DataConfig.model_validate({"name": "shapes", "train_size": 32, "val_size": 16}))
        trainer = TrainerConfig.model_validate({"epochs": 2, "batch_size": 16})
        plan = load_space("shapes").plain().to_dict()
        job = {"number": 0, "architecture": plan, "start_epoch": 0, "stop_epoch": 1, "epochs": 2, "seed": 0}
        worker = Worker.__new__(Worker)
        worker.setup({"job": json.dumps(job)}, data, trainer, str(tmp_path), **settings)  # type: ignore[arg-type]
        return worker

    return make


@pytest.mark.parametrize(("device", "fraction", "set_to"), [("cuda", 0.5, [0.5]), ("cuda", None, []), ("cpu", 0.5, [])])
def test_two_trials_on_a_gpu_each_get_their_half(
    device: str,
    fraction: float | None,
    set_to: list[float],
    make_worker: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The share of a simulated GPU's memory that each process may use."""
    told: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", told.append)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    make_worker(device=device, memory_fraction=fraction)
    assert told == set_to


def test_jobs_follow_the_cluster_and_a_lost_job_continues_under_its_number(
    tmp_path: Path, config: RunConfig, make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Makes Tune's calls without Tune: a node is added, a node is lost, and its trial with it."""
    monkeypatch.setattr(adapter, "COUNT_EVERY_S", -1.0)
    run = begin(tmp_path / "run", config, load_space("shapes"))
    room, nodes, interrupted = 1, frozenset({"one", "two"}), False
    ended: list[str] = []

    def turn() -> None:
        if interrupted:
            raise Interrupted

    with Journal.open(run.folder) as journal:
        engine = make_engine(journal, run)
        finish = engine.finish
        monkeypatch.setattr(engine, "finish", lambda job, outcome: (ended.append(outcome.kind), finish(job, outcome)))
        searcher = adapter.Adapter(engine, lambda: room, lambda: nodes, run.folder / names.CHECKPOINTS, turn)
        first = json.loads(searcher.suggest("a")["job"])
        assert searcher.suggest("b") is None
        room = 3
        others = [json.loads(searcher.suggest(name)["job"])["number"] for name in "bc"]
        assert searcher.suggest("d") is None
        room, nodes = 2, frozenset({"two"})
        searcher.on_trial_complete("a", error=True)
        assert searcher.suggest("d") is None
        room = 3
        assert json.loads(searcher.suggest("d")["job"]) == first
        assert len({first["number"], *others}) == 3
        searcher.on_trial_complete("d", error=True)
        assert ended == ["node_lost", "lost"]
        interrupted, room = True, 4
        with pytest.raises(Interrupted):  # also while Tune only polls
            searcher.suggest("e")
