"""Tests the processes that share a trial's batches: errors in one of them, and its end."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ray.exceptions import RayActorError

from launch.ray.connection import connected
from launch.ray.replicas import ReplicaGroup
from launch.rundir.config import Resources
from nas.search import Job
from search_spaces import load_space
from trainers import DataConfig, Dataset, TrainerConfig, load_data

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.xdist_group("clusters")]


@pytest.fixture(scope="module")
def data(head: "Cluster") -> Iterator[Dataset]:
    """A data set, with a node of Ray and a connection to it."""
    node = head.add_node(num_cpus=2)
    with connected(Resources(address=head.address)):
        yield load_data(DataConfig.model_validate({"name": "shapes", "train_size": 32, "val_size": 16}))
    head.remove_node(node)


TRAINER = TrainerConfig.model_validate({"epochs": 2, "batch_size": 16})


def job(space: str = "shapes") -> Job:
    return Job(number=7, architecture=load_space(space).plain(), start_epoch=0, stop_epoch=2, epochs=2, seed=0)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def group(data: Dataset, checkpoints: Path) -> Iterator[ReplicaGroup]:
    """Two replicas, whose processes the tests share: each start takes seconds."""
    found = ReplicaGroup(2, data, TRAINER, checkpoints)
    yield found
    found.end()


def test_a_dead_replica_ends_all_and_the_next_continue_from_the_checkpoint(
    group: ReplicaGroup, checkpoints: Path
) -> None:
    import ray

    group.open(job())
    first = group.epoch()
    ray.kill(group._actors[1])
    with pytest.raises(RayActorError):
        group.epoch()
    assert group._actors == []
    told = group.open(job())
    assert [record.metrics for record in told] == [first.metrics]
    assert group.epoch().epoch == 2
    group.close()
    assert [path.name for path in sorted((checkpoints / "7").iterdir())] == ["epoch-0001.pt", "epoch-0002.pt"]


def test_errors_are_reported_as_by_a_single_process(group: ReplicaGroup) -> None:
    with pytest.raises(ValueError, match=r"^skeleton.num_classes is 10, and shapes has 2"):
        group.open(job("fashion-mnist"))
    assert group._actors == []
