"""A note in the run's folder of Ray's nodes and jobs, for `nas status`. Needs no Ray."""

import os
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from launch.ray.capacity import room_by_gpu
from launch.rundir import names
from launch.rundir.config import Resources


class NodeNote(BaseModel):
    """A node: its resources, its free resources, and how many trials fit on it without other work (`room`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    host: str
    kind: str
    cpus: float
    free_cpus: float
    gpus: float
    free_gpus: float
    room: int


class ClusterNote(BaseModel):
    """Ray's nodes and jobs at a time.

    ``wanted``: trials at once; ``waiting``: jobs that have no place yet; ``began``: running trial -> when a worker took
    its job (``at`` and ``began`` are the driver's clock, seconds since 1970).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    at: float
    wanted: int
    running: int
    waiting: int
    nodes: tuple[NodeNote, ...]
    began: dict[int, float] = {}


def leave(folder: Path, note: ClusterNote) -> None:
    """Writes the note to the run's folder atomically; a failed write is ignored."""
    temporary = folder / f".{names.CLUSTER}.{os.getpid()}"
    with suppress(OSError):
        temporary.write_text(note.model_dump_json())
        temporary.replace(folder / names.CLUSTER)


def left(folder: Path) -> ClusterNote | None:
    """A driver's last note; None if there is no readable one."""
    try:
        return ClusterNote.model_validate_json((folder / names.CLUSTER).read_bytes())
    except (OSError, ValidationError):
        return None


def idle_gpus(note: ClusterNote, resources: Resources, to_come: int) -> list[str]:
    """A sentence for each node with idle GPUs, with the reason; `to_come`: trials not launched yet."""
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
    if node.free_gpus <= node.gpus - node.room * wanted + 1e-6:  # no number of trials could use them
        if node.room < room_by_gpu(resources, {"GPU": node.gpus}):
            enough = f"its {node.cpus:g} CPUs are enough for {node.room} trials of {cpus:g}"
            return f"{enough}; lower resources.cpus_per_trial"
        return f"trials of {wanted:g} GPUs do not fill it; change resources.gpus_per_trial"
    if note.waiting:
        return f"{note.waiting} jobs wait for Ray to place them; their workers may be starting"
    if note.wanted < sum(other.room for other in note.nodes):
        return f"resources.workers is {note.wanted}; auto uses the whole cluster"
    if not to_come:
        return "all trials are launched, and the last ones end one by one"
    return "the next proposals are being checked against the budget"
