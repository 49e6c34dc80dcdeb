"""The output of the cost commands: `nas cost`, `nas calibrate`, `nas proxies`."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from launch.reports.tables import amount, print_table
from nas.costs import MEASURES, Calibration, Conditions, CostEstimate, CostModel, calibrate, is_counted
from nas.costs.device import fingerprint
from nas.costs.measure import block_shares
from nas.costs.measures import Mode, counted
from nas.costs.timing import threads
from nas.costs.zero_cost import PROXIES, zero_cost
from nas.ranks import rank_correlation
from search_spaces import Architecture, SearchSpace
from trainers import Dataset
from trainers.batches import Batches

_PROXY_IMAGES = 64


def describe(
    architecture: Architecture, model: CostModel, *, measure: bool, memory: float | None = None
) -> dict[str, Any]:
    """An architecture's costs, JSON-able.

    Args:
        architecture: the network.
        model: the cost model, with its conditions.
        measure: run the network to measure times and true peaks; else only estimates that need no run are given.
        memory: bytes of a device; adds the largest batches that fit.

    Returns:
        ``costs`` by measure, ``memory`` (the parts of each peak), ``blocks`` (placements, and shares of activations
        and, if measured, of time), ``largest_batch``.
    """
    profiles = {mode: model.memory(architecture, mode) for mode in _MODES}  # a network that cannot run fails here
    costs: dict[str, CostEstimate] = {}
    for name in MEASURES:
        if measure and not is_counted(name):
            costs[name] = model.measure(architecture, name)
        elif not model.must_measure(architecture, name):
            costs[name] = model.estimate(architecture, name)
    times = block_shares(architecture, model.conditions) if measure else {}
    train = profiles["train"]
    blocks = [
        {
            "block": block.name,
            "placements": {slot: choice.option for slot, choice in architecture.placements.get(block.name, {}).items()},
            "activations": train.blocks[block.name] / max(train.activations, 1),
            "latency": times.get(block.name),
        }
        for block in architecture.blocks
    ]
    found: dict[str, Any] = {
        "conditions": model.conditions.to_dict(),
        "costs": {name: asdict(estimate) for name, estimate in costs.items()},
        "memory": {mode: asdict(profile) for mode, profile in profiles.items()},
        "blocks": blocks,
    }
    if memory is not None:
        found["largest_batch"] = {mode: model.largest_batch(architecture, memory, mode) for mode in ("infer", "train")}
    return found


def show(console: Console, title: str, found: Mapping[str, Any]) -> None:
    """Prints what `describe` found."""
    print_table(
        console,
        [
            {
                "measure": name,
                "value": amount(cost["value"], cost["unit"]),
                "at least": amount(cost["lower"], cost["unit"]),
                "at most": amount(cost["upper"], cost["unit"]),
                "source": cost["source"],
            }
            for name, cost in found["costs"].items()
        ],
        title=title,
    )
    parts = ("parameters", "gradients", "optimizer_state", "inputs", "activations", "temporaries", "peak_op")
    console.print()
    print_table(
        console,
        [
            {"at the peak": part.replace("_", " "), **{mode: _part(found["memory"][mode][part]) for mode in _MODES}}
            for part in parts
        ],
    )
    console.print()
    timed = any(block["latency"] is not None for block in found["blocks"])
    print_table(
        console,
        [
            {
                "block": block["block"],
                "attention": ", ".join(f"{slot} {option}" for slot, option in block["placements"].items()),
                "activations": f"{block['activations']:.1%}",
                **({"latency": f"{block['latency']:.1%}"} if timed else {}),
            }
            for block in found["blocks"]
        ],
    )
    if "largest_batch" in found:
        batch = found["largest_batch"]
        console.print(f"\nlargest batch that fits: {batch['train']:,} in training, {batch['infer']:,} at inference")
    if len(found["costs"]) < len(MEASURES):
        console.print("\ntimes are measured, not derived: add --measure, or --calibration FILE")


_MODES: tuple[Mode, ...] = ("train", "infer")


def _part(value: int | str) -> str:
    return value if isinstance(value, str) else amount(value, "bytes")


def calibration_path(device: str) -> Path:
    """``calibration/cpu.yaml``; for a GPU its name, because a cluster may have several kinds."""
    name = "cpu" if device == "cpu" else fingerprint(device)["device"]
    return Path("calibration") / ("-".join("".join(c if c.isalnum() else " " for c in name.lower()).split()) + ".yaml")


def run_calibration(space: SearchSpace, conditions: Conditions, console: Console) -> Calibration:
    """`nas.costs.calibrate` with a progress bar."""
    columns = (TextColumn("timing networks"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("")
        return calibrate(
            space, conditions, progress=lambda done, total: progress.update(task, completed=done, total=total)
        )


def calibration_rows(calibration: Calibration) -> list[dict[str, Any]]:
    """One row per measure: the plain skeleton's time, and the errors of predictions for held-out networks."""
    rows = []
    for measure, table in calibration.tables.items():
        off = [abs(ratio - 1) for ratio in table.ratios]
        rows.append(
            {
                "measure": measure,
                "plain": f"{table.plain_ms:.3g} ms",
                "placements": len(table.entries),
                "held-out networks": len(off),
                "mean error": f"{np.mean(off):.1%}",
                "95 % are within": f"{table.width - 1:.1%}",
            }
        )
    return rows


def proxy_rows(
    architectures: Sequence[Architecture], dataset: Dataset, accuracies: Sequence[float] | None = None
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
    """Zero-cost proxies of architectures on a batch of the data, and their rank correlations.

    Args:
        architectures: at least two.
        dataset: a batch of 64 of its training images is used.
        accuracies: of the architectures, if known.

    Returns:
        One row per architecture; and proxy -> Spearman's rank correlation with ``params``, ``macs`` and, if known,
        ``accuracy``.
    """
    batches = Batches(dataset, _PROXY_IMAGES, torch.device("cpu"), torch.contiguous_format)
    images, labels = next(iter(batches.train(1, 0, augment=False)))
    rows: list[dict[str, Any]] = []
    with threads(1):
        for architecture in architectures:
            figures = zero_cost(architecture, images, labels)
            rows.append({"network": architecture.fingerprint[:12], **figures, **counted(architecture)})
    against = {name: [float(row[name]) for row in rows] for name in MEASURES if is_counted(name)}
    if accuracies is not None:
        against["accuracy"] = list(accuracies)
    return rows, {
        proxy: {name: rank_correlation([row[proxy] for row in rows], values) for name, values in against.items()}
        for proxy in PROXIES
    }


def sampled(space: SearchSpace, networks: int) -> list[Architecture]:
    """The baselines and random architectures of a space, each once; fewer if the space has fewer."""
    rng = random.Random(0)
    found = {architecture.fingerprint: architecture for architecture in space.baselines().values()}
    for _ in range(20 * networks):
        if len(found) >= networks:
            break
        architecture = space.sample(rng)
        found.setdefault(architecture.fingerprint, architecture)
    return list(found.values())
