"""How much each placement improves the metric, with all other placements held equal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas.search.metrics import Objective
from nas.search.records import TrialRecord
from search_spaces.sites import EMPTY, Slot

_SHRINKAGE = 1.0
"""Ridge penalty, in trials: the effect of a placement that was tried once is halved."""


@dataclass(frozen=True, slots=True)
class Effect:
    """By how much an option in a slot of a block improves the metric on validation data, against the empty slot."""

    block: str
    slot: Slot
    option: str
    gain: float
    trials: int


def effects(trials: Sequence[TrialRecord], metric: Objective, epochs: int) -> list[Effect]:
    """Main effects of placements on a metric, by ridge regression over the trials trained for `epochs`.

    Trials differ in many places at once, so the mean over the trials with a placement would include effects of their
    other placements. The regression has a column per (block, slot, option), which is 0 where the slot is empty. It
    shrinks the effects of rarely tried placements towards 0.

    Args:
        trials: Of a run. Trials that did not reach `epochs` are left out: their values are not comparable.
        metric: In its unit, gains are above 0 where a placement makes it better.
        epochs: The full length of a trial.

    Returns:
        One effect per column, in the order of the network.
    """
    told = metric.metric
    reached = [t for t in trials if t.plan is not None and epochs in t.epochs and told in t.epochs[epochs].metrics]
    held = [placed(trial) for trial in reached]
    order = {block.name: i for i, block in enumerate(reached[0].architecture.blocks)} if reached else {}
    columns = sorted({key for keys in held for key in keys}, key=lambda key: (order[key[0]], key[1], key[2]))
    if not columns:
        return []
    x = np.array([[key in keys for key in columns] for keys in held], dtype=np.float64)
    y = np.array([metric.merit(trial.epochs[epochs].metrics[told]) for trial in reached])
    centred = x - x.mean(axis=0)
    gram = centred.T @ centred + _SHRINKAGE * np.eye(len(columns))
    gains = np.linalg.solve(gram, centred.T @ (y - y.mean()))
    counts = x.sum(axis=0).astype(int)
    return [
        Effect(block, slot, option, float(gain), int(count))
        for (block, slot, option), gain, count in zip(columns, gains, counts, strict=True)
    ]


def as_table(found: Sequence[Effect], factor: float) -> Mapping[str, Mapping[str, float]]:
    """option -> block -> gain times `factor`, for plots."""
    table: dict[str, dict[str, float]] = {}
    for effect in found:
        table.setdefault(effect.option, {})[effect.block] = factor * effect.gain
    return table


def placed(trial: TrialRecord) -> set[tuple[str, Slot, str]]:
    """(Block, slot, option) of every placement of a trial.

    Read off the plan: an architecture checks all its parameters, which takes seconds for thousands of trials.
    """
    assert trial.plan is not None, trial.number
    return {
        (block, slot, option)
        for block, slots in trial.plan["placements"].items()
        for slot, choice in slots.items()
        for option in choice
        if option != EMPTY[slot]
    }
