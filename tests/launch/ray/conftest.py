"""One Ray head for all tests that do not test the head, because starting one takes seconds of processor time."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


@pytest.fixture(scope="session")
def head() -> "Iterator[Cluster]":
    """A head node that runs no trials."""
    from ray.cluster_utils import Cluster

    assert "RAY_ADDRESS" not in os.environ
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.fixture
def cluster(head: "Cluster") -> "Iterator[Cluster]":
    """The head alone. The test adds nodes; they are removed after the test."""
    assert not head.worker_nodes
    yield head
    for node in list(head.worker_nodes):
        head.remove_node(node)
    head.wait_for_nodes()
