"""What a Ray cluster has room for; and a note in the run's folder of what it gave to whom, for `nas status`.

Importing this needs no Ray: what asks the cluster imports it.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from launch.config import Resources
from launch.errors import UserError

Node = Mapping[str, float]
"""A node's resources by Ray's names: ``CPU``, ``GPU``, ``accelerator_type:H100``."""

_NOTE = "cluster.json"
_KIND = "accelerator_type:"
_KIND_SHARE = 0.001
"""What Ray itself takes of the mark that says a node's kind; it is there once a node, for any number of trials."""

_REPORT_WITHIN_S = 15.0
"""Ray's autoscaler reports every five seconds; a cluster that was started just now may have none yet."""


def request(resources: Resources) -> Any:  # noqa: ANN401  # what Tune takes
    """What a trial takes of its node, as Tune wants it said: for each of several ranks a bundle, all on one node."""
    from ray.tune import PlacementGroupFactory  # noqa: PLC0415

    ranks = resources.ranks
    rank = {"CPU": resources.cpus_per_trial / ranks, "GPU": resources.gpus_per_trial / ranks}
    if resources.accelerator is not None:
        rank[f"{_KIND}{resources.accelerator}"] = _KIND_SHARE
    return rank if ranks == 1 else PlacementGroupFactory([{}, *[rank] * ranks], strategy="STRICT_PACK")


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


def room(resources: Resources, nodes: Sequence[Node]) -> int:
    """How many trials fit on these nodes; one never spans two nodes, nor a share two GPUs."""
    return sum(room_on(resources, node) for node in nodes)


def room_on(resources: Resources, node: Node) -> int:
    """How many trials fit on a node when nothing else is there."""
    if resources.accelerator is not None and not node.get(f"{_KIND}{resources.accelerator}"):
        return 0
    by_cpu = math.floor(node.get("CPU", 0) / resources.cpus_per_trial + 1e-6)
    return min(by_cpu, _by_gpu(resources, node)) if resources.gpus_per_trial else by_cpu


def check_fits(resources: Resources, nodes: Sequence[Node], grows: Callable[[], bool]) -> str | None:
    """Whether a trial can start on some node.

    Args:
        resources: What it asks for.
        nodes: Those that are there.
        grows: Whether others may come; asked only if it matters.

    Returns:
        What has to come first, or None.

    Raises:
        UserError: It fits on no node, and none will come: Ray would wait for ever.
    """
    if any(room_on(resources, node) for node in nodes):
        return None
    kind = f" of kind {resources.accelerator}" if resources.accelerator else ""
    have = sorted({(node.get("CPU", 0), node.get("GPU", 0), _kinds(node)) for node in nodes}, reverse=True)
    most = "; ".join(f"{cpus:g} CPUs and {gpus:g} GPUs{kinds}" for cpus, gpus, kinds in have[:3])
    missing = (
        f"a trial asks for {resources.cpus_per_trial:g} CPUs and {resources.gpus_per_trial:g} GPUs{kind}, and no node "
        f"of the cluster has them together ({most})"
    )
    if not grows():
        raise UserError(f"nas: {missing}: lower resources.cpus_per_trial or resources.gpus_per_trial")
    return f"{missing}: waiting for the autoscaler to add one; ray status says what it can add, Ctrl-C stops"


def grows() -> bool:
    """Whether an autoscaler may add nodes to the connected cluster.

    Ray's monitor reports on every cluster. One that has a configuration names its node types; one that can start
    nothing makes up a type for each node that it finds, which is named after it.
    """
    deadline = time.monotonic() + _REPORT_WITHIN_S
    while not (types := _node_types()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return any(not name.startswith("node_") for name in types)


def kind_here() -> str | None:
    """The kind of this machine's GPU, as a Ray node on it would say it; None without one."""
    from ray._private.accelerators import get_accelerator_manager_for_resource  # noqa: PLC0415

    manager = get_accelerator_manager_for_resource("GPU")
    kind = None if manager is None else manager.get_current_node_accelerator_type()
    return None if kind is None else str(kind)


def _node_types() -> set[str]:
    import ray  # noqa: PLC0415
    from ray.autoscaler.v2.sdk import get_cluster_status  # noqa: PLC0415
    from ray.autoscaler.v2.utils import is_autoscaler_v2  # noqa: PLC0415
    from ray.experimental.internal_kv import _internal_kv_get  # noqa: PLC0415

    if is_autoscaler_v2(fetch_from_server=True):
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        seen = (*status.active_nodes, *status.idle_nodes, *status.pending_nodes)
        return {node.ray_node_type_name for node in seen}
    report = json.loads(_internal_kv_get("__autoscaling_status") or "{}").get("autoscaler_report") or {}
    return {*(report.get("active_nodes") or ()), *(report.get("idle_nodes") or ())}


def _alive() -> list[dict[str, Any]]:
    import ray  # noqa: PLC0415

    return [node for node in ray.nodes() if node["Alive"]]


def _wanted(resources: Resources, nodes: Sequence[Node]) -> int:
    return resources.workers if resources.workers != "auto" else max(1, room(resources, nodes))


def _by_gpu(resources: Resources, node: Node) -> int:
    gpus = math.floor(node.get("GPU", 0))
    return gpus // resources.ranks * math.floor(resources.ranks / resources.gpus_per_trial + 1e-6)


def _kinds(node: Node) -> str:
    kinds = sorted(name.removeprefix(_KIND) for name in node if name.startswith(_KIND))
    return f" of kind {', '.join(kinds)}" if kinds else ""


# --- the note


class NodeNote(BaseModel):
    """A node: what it has, what of that Ray gave to nobody, and how many trials it holds when all of it is theirs."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    host: str
    kind: str
    cpus: float
    free_cpus: float
    gpus: float
    free_gpus: float
    room: int


class ClusterNote(BaseModel):
    """What Ray gave to whom, and when. ``wanted``: trials at once; ``waiting``: jobs that Ray has no place for yet."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    at: float
    wanted: int
    running: int
    waiting: int
    nodes: tuple[NodeNote, ...]


def look(resources: Resources, running: int, waiting: int) -> ClusterNote:
    """The connected cluster as it is now, with so many jobs on it and so many that wait for a place."""
    from ray._private.state import available_resources_per_node  # noqa: PLC0415

    alive, free = _alive(), available_resources_per_node()
    notes = []
    for node in alive:
        has, left = node["Resources"], free.get(node["NodeID"], {})
        note = NodeNote(
            host=node["NodeManagerHostname"],
            kind=_kinds(has).removeprefix(" of kind "),
            cpus=has.get("CPU", 0.0),
            free_cpus=left.get("CPU", 0.0),
            gpus=has.get("GPU", 0.0),
            free_gpus=left.get("GPU", 0.0),
            room=room_on(resources, has),
        )
        notes.append(note)
    wanted = _wanted(resources, [node["Resources"] for node in alive])
    return ClusterNote(at=time.time(), wanted=wanted, running=running, waiting=waiting, nodes=tuple(notes))


def leave(folder: Path, note: ClusterNote) -> None:
    """Writes the note to the run's folder, whole or not at all; a search goes on without it."""
    temporary = folder / f".{_NOTE}.{os.getpid()}"
    with suppress(OSError):
        temporary.write_text(note.model_dump_json())
        temporary.replace(folder / _NOTE)


def left(folder: Path) -> ClusterNote | None:
    """The note that a driver left last; None if there is none that can be read."""
    try:
        return ClusterNote.model_validate_json((folder / _NOTE).read_bytes())
    except (OSError, ValidationError):
        return None


def idle_gpus(note: ClusterNote, resources: Resources, to_come: int) -> list[str]:
    """A sentence for each node whose GPUs nobody uses, with the reason; `to_come`: trials not launched yet."""
    return [
        f"{node.host}: {node.free_gpus:g} of {node.gpus:g} GPUs are idle: {_why_idle(node, note, resources, to_come)}"
        for node in note.nodes
        if node.free_gpus > 1e-6
    ]


def _why_idle(node: NodeNote, note: ClusterNote, resources: Resources, to_come: int) -> str:
    wanted, cpus = resources.gpus_per_trial, resources.cpus_per_trial
    if not wanted:
        return "trials ask for none; set resources.gpus_per_trial"
    if resources.accelerator is not None and resources.accelerator not in node.kind.split(", "):
        return f"trials are kept to resources.accelerator {resources.accelerator}"
    if node.free_gpus <= node.gpus - node.room * wanted + 1e-6:  # as many as no number of trials will ever use
        if node.room < _by_gpu(resources, {"GPU": node.gpus}):
            enough = f"its {node.cpus:g} CPUs are enough for {node.room} trials of {cpus:g}"
            return f"{enough}; lower resources.cpus_per_trial"
        return f"trials of {wanted:g} GPUs do not fill it; change resources.gpus_per_trial"
    if note.waiting:
        return f"{note.waiting} jobs wait for Ray to place them; their workers may be starting"
    if note.wanted < sum(other.room for other in note.nodes):
        return f"resources.workers is {note.wanted}; auto takes all there is"
    if not to_come:
        return "every trial is launched, and those that are left end one by one"
    return "the next proposals are being checked against the budget"
