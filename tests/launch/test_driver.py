"""What a trial gets of a cluster, and how many of them there are."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from launch import driver
from launch.config import Resources, RunConfig
from launch.driver import address_of, check_fits, room
from launch.errors import UserError
from launch.run import begin
from launch.worker import Worker
from nas.costs import Conditions, CostModel
from nas.search import Engine, Journal
from search_spaces import load_space
from trainers import DataConfig, TrainerConfig, load_data

EIGHT = {"CPU": 64.0, "GPU": 8.0}
HEAD = {"CPU": 2.0}


def resources(cpus: float, gpus: float) -> Resources:
    return Resources(cpus_per_trial=cpus, gpus_per_trial=gpus)


@pytest.mark.parametrize(
    ("cpus", "gpus", "nodes", "trials"),
    [
        (1, 0, [HEAD], 2),
        (1, 1, [EIGHT] * 4, 32),
        (1, 0.5, [EIGHT, HEAD], 16),
        (1, 0.4, [EIGHT], 16),  # a GPU holds two shares of 0.4, not two and a half
        (1, 1 / 3, [EIGHT], 24),
        (16, 1, [EIGHT], 4),  # the processors are what is short
        (1, 3, [EIGHT, {"CPU": 64.0, "GPU": 2.0}], 2),  # a trial never spans two nodes
        (0.5, 0, [HEAD], 4),
        (1, 1, [HEAD], 0),
    ],
)
def test_how_many_trials_fit(cpus: float, gpus: float, nodes: list[dict[str, float]], trials: int) -> None:
    assert room(resources(cpus, gpus), nodes) == trials


@pytest.mark.parametrize(
    ("cpus", "gpus", "message"),
    [
        (
            1,
            16,
            "a trial asks for 1 CPUs and 16 GPUs, and no node of the cluster has them together (64 CPUs and 8 GPUs; ",
        ),
        (65, 1, "a trial asks for 65 CPUs and 1 GPUs"),
        (1, 1.5, "resources.gpus_per_trial is 1.5: below 1 it is a share"),
    ],
)
def test_a_trial_that_fits_nowhere_is_refused(cpus: float, gpus: float, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        check_fits(resources(cpus, gpus), [EIGHT, HEAD])
    assert len(str(raised.value).splitlines()) == 1


def test_one_that_fits_on_one_node_is_not() -> None:
    check_fits(resources(1, 8), [HEAD, EIGHT])


@pytest.mark.parametrize(
    ("kept", "given", "address"),
    [
        (None, None, None),
        ("auto", None, "auto"),
        ("auto", "local", None),
        ("ray://a:10001", "ray://b:10001", "ray://b:10001"),
        (None, "auto", "auto"),
    ],
)
def test_where_a_run_goes_on(kept: str | None, given: str | None, address: str | None) -> None:
    assert address_of(kept, given) == address


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
    """Of a pretended GPU: what each process would be allowed of its memory."""
    told: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", told.append)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    make_worker(device=device, memory_fraction=fraction)
    assert told == set_to


def test_jobs_follow_the_cluster_and_a_lost_one_goes_on_under_its_number(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune's calls, without Tune: a node comes, a node goes, a trial dies with it."""
    monkeypatch.setattr(driver, "_COUNT_EVERY_S", -1.0)
    run = begin(tmp_path / "run", config, load_space("shapes"))
    room = 1
    with Journal.open(run.folder) as journal:
        engine = Engine(
            journal,
            run.space,
            config.search,
            objectives=run.objectives,
            epochs=config.trainer.epochs,
            costs=CostModel(Conditions()),
        )
        adapter = driver._adapter(engine, lambda: room, run.folder)
        first = json.loads(adapter.suggest("a")["job"])
        assert adapter.suggest("b") is None
        room = 3
        others = [json.loads(adapter.suggest(name)["job"])["number"] for name in "bc"]
        assert adapter.suggest("d") is None
        room = 2
        adapter.on_trial_complete("a", error=True)
        assert adapter.suggest("d") is None
        room = 3
        assert json.loads(adapter.suggest("d")["job"]) == first
        assert len({first["number"], *others}) == 3
