"""The connected Ray cluster: its nodes, resources and autoscaler."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.tune import PlacementGroupFactory

from launch.ray import internals
from launch.ray.capacity import KIND, Node, kinds_of, room, room_on
from launch.ray.note import ClusterNote, NodeNote
from launch.rundir.config import Resources

_KIND_SHARE = 0.001
"""The share that Ray itself requests of `accelerator_type:...`; a node has 1 of it, for any number of trials."""

_REPORT_WITHIN_S = 15.0
"""Ray's autoscaler reports every five seconds; a new cluster may have no report yet."""


def request(resources: Resources) -> object:
    """A trial's resources in Tune's form. Several replicas get one bundle each, all on one node."""

    world_size = resources.world_size
    replica = {"CPU": resources.cpus_per_trial / world_size, "GPU": resources.gpus_per_trial / world_size}
    if resources.accelerator is not None:
        replica[f"{KIND}{resources.accelerator}"] = _KIND_SHARE
    return replica if world_size == 1 else PlacementGroupFactory([{}, *[replica] * world_size], strategy="STRICT_PACK")


def nodes() -> list[Node]:
    """The resources of the connected cluster's living nodes."""
    return [node["Resources"] for node in _alive()]


def node_ids() -> frozenset[str]:
    """Ray's ids of the living nodes. Ray never uses an id twice."""
    return frozenset(node["NodeID"] for node in _alive())


def worker_count(resources: Resources) -> int:
    """How many trials should run at once on the connected cluster, as it is now.

    A number in the run file is used even if there is no room: waiting trials make an autoscaler add nodes.
    """
    return _wanted(resources, nodes())


def grows() -> bool:
    """Whether an autoscaler may add nodes to the connected cluster.

    Ray's monitor reports on every cluster. With a configuration it names the node types of that configuration. Without
    one it can start no node, and makes up a type `node_...` for each node that it finds.
    """
    deadline = time.monotonic() + _REPORT_WITHIN_S
    while not (types := internals.node_types()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return any(not name.startswith("node_") for name in types)


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _wanted(resources: Resources, nodes: Sequence[Node]) -> int:
    return resources.workers if resources.workers != "auto" else max(1, room(resources, nodes))


def look(resources: Resources, began: Mapping[int, float], waiting: int) -> ClusterNote:
    """The connected cluster as it is now. `began` is as in `ClusterNote`; `waiting` jobs have no place yet."""
    alive, free = _alive(), internals.free_resources()
    notes = []
    for node in alive:
        has, left = node["Resources"], free.get(node["NodeID"], {})
        note = NodeNote(
            host=node["NodeManagerHostname"],
            kind=kinds_of(has).removeprefix(" of kind "),
            cpus=has.get("CPU", 0.0),
            free_cpus=left.get("CPU", 0.0),
            gpus=has.get("GPU", 0.0),
            free_gpus=left.get("GPU", 0.0),
            room=room_on(resources, has),
        )
        notes.append(note)
    wanted = _wanted(resources, [node["Resources"] for node in alive])
    return ClusterNote(
        at=time.time(), wanted=wanted, running=len(began), waiting=waiting, nodes=tuple(notes), began=dict(began)
    )
