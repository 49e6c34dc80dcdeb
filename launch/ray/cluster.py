"""What the connected Ray cluster has: nodes, resources, an autoscaler."""

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
"""What Ray itself takes of the mark that says a node's kind; it is there once a node, for any number of trials."""

_REPORT_WITHIN_S = 15.0
"""Ray's autoscaler reports every five seconds; a cluster that was started just now may have none yet."""


def request(resources: Resources) -> object:
    """What a trial takes of its node, as Tune wants it said: for each of several replicas a bundle, all on one node."""

    world_size = resources.world_size
    replica = {"CPU": resources.cpus_per_trial / world_size, "GPU": resources.gpus_per_trial / world_size}
    if resources.accelerator is not None:
        replica[f"{KIND}{resources.accelerator}"] = _KIND_SHARE
    return replica if world_size == 1 else PlacementGroupFactory([{}, *[replica] * world_size], strategy="STRICT_PACK")


def nodes() -> list[Node]:
    """The nodes of the connected cluster that are alive."""
    return [node["Resources"] for node in _alive()]


def node_ids() -> frozenset[str]:
    """Who they are: Ray's ids, of which none is given twice."""
    return frozenset(node["NodeID"] for node in _alive())


def worker_count(resources: Resources) -> int:
    """How many trials are to run at once on the connected cluster, as it is now.

    A number that the run file gives stands, whether or not there is room: what waits is what makes an autoscaler grow.
    """
    return _wanted(resources, nodes())


def grows() -> bool:
    """Whether an autoscaler may add nodes to the connected cluster.

    Ray's monitor reports on every cluster. One that has a configuration names its node types; one that can start
    nothing makes up a type for each node that it finds, which is named after it.
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
    """The connected cluster as it is now, with these jobs on it (as in the note) and so many that wait for a place."""
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
