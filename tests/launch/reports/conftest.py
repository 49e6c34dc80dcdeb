"""Makes an answer of a run's trials by a rule that a test can follow, without statistics."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from launch.rundir.run import Run
from nas.analysis.answer import Answer, Place, PlaceEffect, Standing
from nas.analysis.evidence import placements
from nas.analysis.intervals import Interval
from nas.search import TrialRecord
from search_spaces.sites import EMPTY


def answer_of(run: Run, trials: Sequence[TrialRecord]) -> Answer:
    """The n-th placement of the space gains (n mod 7 - 2) hundredths, plus or minus 0.015; trials have one seed."""
    places = [
        Place(group.label, group.blocks, group.slot, offer.option)
        for group in run.space.groups
        for offer in group.offers
        if offer.option != EMPTY[group.slot]
    ]
    effects = tuple(
        PlaceEffect(
            place,
            _about(0.01 * (n % 7 - 2), 0.015),
            trainings=sum(
                any(block in place.blocks and option == place.option for block, _, option in placements(trial))
                for trial in trials
                if trial.plan is not None
            ),
            costs=dict.fromkeys(run.measures, 10000.0 * n),
            more=(0, 12, None)[n % 3],
        )
        for n, place in enumerate(places)
    )
    complete = [trial for trial in trials if trial.status == "complete" and not trial.origin.is_finalist]
    complete.sort(key=lambda trial: -run.metric.objective.merit(trial.latest(run.metric.name) or 0.0))
    standings = tuple(
        Standing(trial, (value,), _about(value, 0.01), 0.5, 0.1, (), 0.004, unstable=n == 1)
        for n, trial in enumerate(complete)
        if (value := trial.latest(run.metric.name)) is not None
    )
    return Answer(
        trainings=len(complete),
        networks=len(complete),
        effects=effects,
        options={place.option: _about(0.01, 0.02) for place in places},
        pairs=(),
        standings=standings,
        take=complete[0].number,
        rival=complete[1].number if len(complete) > 1 else None,
        more=5,
        baseline=next((trial.number for trial in complete if trial.origin.is_baseline), None),
        over_baseline=_about(0.02, 0.01),
        baseline_best=0.1,
        noise=_about(0.004, 0.001),
        unexplained=_about(0.003, 0.002),
        gains=_draws([effect.gain for effect in effects]),
        merits=run.metric.objective.merit(1.0) * _draws([standings[0].mean])[:, 0],
    )


def _about(value: float, margin: float) -> Interval:
    return Interval(value, value - margin, value + margin)


def _draws(found: Sequence[Interval]) -> NDArray[np.float64]:
    """[200, intervals] draws with these means, so narrow that the intervals of all hold together."""
    means = np.array([one.value for one in found])
    spread = np.array([one.high - one.value for one in found]) / 4
    return np.asarray(means + spread * np.random.default_rng(1).normal(size=(200, len(found))))


@pytest.fixture
def make_answer() -> Callable[[Run, Sequence[TrialRecord]], Answer]:
    """Makes an answer, as `answer_of`."""
    return answer_of
