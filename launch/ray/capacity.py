"""How many trials fit on nodes. Pure arithmetic, without a cluster."""

import math
from collections.abc import Callable, Mapping, Sequence

from launch.errors import UserError
from launch.rundir.config import Resources

Node = Mapping[str, float]
"""A node's resources by Ray's names: ``CPU``, ``GPU``, ``accelerator_type:H100``."""

KIND = "accelerator_type:"
"""Prefix of the resource that names a node's kind of GPU."""


def room(resources: Resources, nodes: Sequence[Node]) -> int:
    """How many trials fit on these nodes. A trial never spans two nodes; a fraction of a GPU never spans two GPUs."""
    return sum(room_on(resources, node) for node in nodes)


def room_on(resources: Resources, node: Node) -> int:
    """How many trials fit on a node without other work."""
    if resources.accelerator is not None and not node.get(f"{KIND}{resources.accelerator}"):
        return 0
    by_cpu = math.floor(node.get("CPU", 0) / resources.cpus_per_trial + 1e-6)
    return min(by_cpu, room_by_gpu(resources, node)) if resources.gpus_per_trial else by_cpu


def check_fits(resources: Resources, nodes: Sequence[Node], grows: Callable[[], bool]) -> str | None:
    """Whether a trial can start on some node.

    Args:
        resources: The trial's request.
        nodes: The nodes of the cluster.
        grows: Whether an autoscaler may add nodes; called only if no node fits.

    Returns:
        A warning that the trial waits for a new node, or None if it fits.

    Raises:
        UserError: It fits on no node, and no node can be added: Ray would wait for ever.
    """
    if any(room_on(resources, node) for node in nodes):
        return None
    kind = f" of kind {resources.accelerator}" if resources.accelerator else ""
    have = sorted({(node.get("CPU", 0), node.get("GPU", 0), kinds_of(node)) for node in nodes}, reverse=True)
    most = "; ".join(f"{cpus:g} CPUs and {gpus:g} GPUs{kinds}" for cpus, gpus, kinds in have[:3])
    missing = (
        f"a trial asks for {resources.cpus_per_trial:g} CPUs and {resources.gpus_per_trial:g} GPUs{kind}, but no node "
        f"of the cluster has them together ({most})"
    )
    if not grows():
        raise UserError(f"{missing}: lower resources.cpus_per_trial or resources.gpus_per_trial")
    return f"{missing}: waiting for the autoscaler to add one; ray status shows what it can add, Ctrl-C stops"


def room_by_gpu(resources: Resources, node: Node) -> int:
    """How many trials fit on a node's GPUs."""
    gpus = math.floor(node.get("GPU", 0))
    return gpus // resources.world_size * math.floor(resources.world_size / resources.gpus_per_trial + 1e-6)


def kinds_of(node: Node) -> str:
    """`` of kind H100``; empty without a GPU."""
    kinds = sorted(name.removeprefix(KIND) for name in node if name.startswith(KIND))
    return f" of kind {', '.join(kinds)}" if kinds else ""
