"""The trainings of a run as the model reads them: which network has which placement, and what each training gave."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.analysis.front import front_of
from nas.analysis.model import Evidence
from nas.search.metrics import Objective, metric_among
from nas.search.records import TrialRecord
from search_spaces import SearchSpace
from search_spaces.sites import EMPTY, SLOTS, Slot

Array = NDArray[np.float64]

_MOST_NETWORKS = 250
"""With more networks, a random sample of them is used, because the model's time grows with their cube."""
_NEAREST = 1e-3
"""Smallest distance of a metric's share from 0 and 1."""


@dataclass(frozen=True, slots=True)
class Place:
    """An option in a slot of the blocks that choose together. ``label``: of the blocks, as `Group.label`."""

    label: str
    blocks: tuple[str, ...]
    slot: Slot
    option: str


@dataclass(frozen=True)
class Reading:
    """A run's trainings as the model reads them.

    ``places`` [places], ``networks`` [networks]: the first trial of each network, by number; ``evidence``: on the
    model's scale. ``ends`` [networks]: the metric of each network's trainings in full.
    """

    metric: Objective
    places: tuple[Place, ...]
    networks: tuple[TrialRecord, ...]
    evidence: Evidence
    ends: tuple[tuple[float, ...], ...]


def read(
    trials: Sequence[TrialRecord], objectives: Sequence[Objective], epochs: int, space: SearchSpace
) -> Reading | None:
    """The trainings of a run as arrays; None without a metric of training, or if fewer than three networks were
    trained in full.

    Args:
        trials: Of a run. Failed ones are left out. A trial that still trains counts up to the last rung it passed.
        objectives: Of the run.
        epochs: The full length of a trial.
        space: Whose groups are the places. What a placement by hand has outside of them becomes places of its own.
    """
    at = metric_among([objective.metric for objective in objectives])
    if at is None:
        return None
    metric = objectives[at]
    told = metric.metric
    trained = [t for t in trials if t.plan is not None and t.status in ("complete", "stopped", "active")]
    stops = sorted({t.last_epoch for t in trained if t.status == "stopped"})
    levels = [*(stop for stop in stops if 0 < stop < epochs), epochs]
    rows: list[tuple[TrialRecord, list[float]]] = []
    for trial in trained:
        values = [trial.epochs[at].metrics.get(told, np.nan) if at <= trial.last_epoch else np.nan for at in levels]
        reached = int(np.isfinite(values).sum())
        if reached and np.isfinite(values[:reached]).all():
            rows.append((trial, values))
    first: dict[str, TrialRecord] = {}
    for trial, _ in rows:
        first.setdefault(trial.fingerprint, trial)
    ends: dict[str, list[float]] = {}
    for trial, values in rows:
        if np.isfinite(values[-1]):
            ends.setdefault(trial.fingerprint, []).append(values[-1])
    if len(ends) < 3:
        return None
    names = _sampled(first, {trial.fingerprint for trial in front_of(trials, objectives)}, ends)
    index = {name: i for i, name in enumerate(names)}
    rows = [(trial, values) for trial, values in rows if trial.fingerprint in index]
    networks = tuple(first[name] for name in names)
    places, placed, options, groups = places_of([placements(trial) for trial in networks], space)
    seeds = {seed: i for i, seed in enumerate(dict.fromkeys(trial.seed for trial, _ in rows))}
    evidence = Evidence(
        placed=placed,
        options=options,
        groups=groups,
        network=np.array([index[trial.fingerprint] for trial, _ in rows]),
        seed=np.array([seeds[trial.seed] for trial, _ in rows]),
        values=to_scale(np.array([values for _, values in rows]), metric),
    )
    return Reading(metric, places, networks, evidence, tuple(tuple(ends.get(name, ())) for name in names))


def _sampled(
    networks: Mapping[str, TrialRecord], front: AbstractSet[str], ends: Mapping[str, Sequence[float]]
) -> list[str]:
    """The networks that the model reads: the front, the baselines, those with several trainings, and as many others, by
    chance, as it can.
    """
    if len(networks) <= _MOST_NETWORKS:
        return list(networks)
    kept = {
        name
        for name, trial in networks.items()
        if name in front or trial.origin.is_baseline or len(ends.get(name, ())) > 1
    }
    others = [name for name in networks if name not in kept]
    drawn = np.random.default_rng(0).permutation(len(others))[: max(_MOST_NETWORKS - len(kept), 0)]
    kept |= {others[i] for i in drawn}
    return [name for name in networks if name in kept]


def places_of(
    held: Sequence[AbstractSet[tuple[str, Slot, str]]], space: SearchSpace
) -> tuple[tuple[Place, ...], Array, NDArray[np.int64], NDArray[np.int64]]:
    """The places in the order of the network, and for `Evidence`: placed, options, groups.

    Args:
        held: (Block, slot, option) of every placement of each network.
        space: Whose groups are the places.
    """
    order = {block.name: i for i, block in enumerate(space.blocks)}
    grouped = {(block, group.slot): (group.label, group.blocks) for group in space.groups for block in group.blocks}
    columns: dict[Place, None] = {}
    rows: list[dict[Place, float]] = []
    for found in held:
        row: dict[Place, float] = {}
        for block, slot, option in found:
            label, blocks = grouped.get((block, slot), (block, (block,)))
            place = Place(label, tuple(blocks), slot, option)
            row[place] = row.get(place, 0.0) + 1 / len(blocks)
        rows.append(row)
        columns.update(dict.fromkeys(row))
    places = sorted(columns, key=lambda one: (order[one.blocks[0]], SLOTS.index(one.slot), one.label, one.option))
    options = sorted({one.option for one in places})
    groups = list(dict.fromkeys((one.label, one.slot) for one in places))
    return (
        tuple(places),
        np.array([[row.get(place, 0.0) for place in places] for row in rows]).reshape(len(rows), len(places)),
        np.array([options.index(one.option) for one in places], dtype=np.int64),
        np.array([groups.index((one.label, one.slot)) for one in places], dtype=np.int64),
    )


def placements(trial: TrialRecord) -> set[tuple[str, Slot, str]]:
    """(Block, slot, option) of every placement of a trial.

    Read off the plan: an architecture checks all its parameters, which takes seconds for thousands of trials.
    """
    assert trial.plan is not None, trial.number
    return held_by(trial.plan)


def held_by(plan: Mapping[str, Any]) -> set[tuple[str, Slot, str]]:
    """(Block, slot, option) of every placement of an architecture in the form of `Architecture.to_dict`."""
    return {
        (block, slot, option)
        for block, slots in plan["placements"].items()
        for slot, choice in slots.items()
        for option in choice
        if option != EMPTY[slot]
    }


def to_scale(values: Array, metric: Objective) -> Array:
    """Log-odds of the metric's share of its range; higher is better."""
    share = np.clip((values - metric.worst) / (metric.best - metric.worst), _NEAREST, 1 - _NEAREST)
    return np.asarray(np.log(share / (1 - share)))


def to_value(log_odds: Array, metric: Objective) -> Array:
    """The metric, in its unit, for log-odds on the model's scale."""
    return np.asarray(metric.worst + (metric.best - metric.worst) * share(log_odds))


def share(log_odds: Array) -> Array:
    """The share of the metric's range that log-odds stand for; 1 is best."""
    return np.asarray(1 / (1 + np.exp(-log_odds)))
