"""The answer of a run, from trials with known accuracies."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from nas.analysis import Answer, answer, front_by_means, most_telling, select
from nas.search import Objective, TrialRecord
from nas.search.records import Figure
from search_spaces import Architecture, SearchSpace, parse_space

TrialOf = Callable[..., TrialRecord]
METRIC, COST = Objective("top1", "maximize"), Objective("params", "minimize")
OBJECTIVES = (METRIC, COST)
EPOCHS = 3

SPACE = """
schema: 1
name: answers
skeleton: {family: resnet, depth: 8, width: 16, image_size: 32, num_classes: 10}
placements:
  "*": {refine: [none, {se: {reduction: 4}}, {cbam: {reduction: 4}}]}
tie: none
"""


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return parse_space(SPACE)


def placed(space: SearchSpace, options: tuple[str, ...]) -> Architecture:
    """The architecture with these options in its three groups."""
    wanted = dict(zip(space.groups, options, strict=True))
    return space.decided(lambda group: next(one for one in group.alternatives if one.option == wanted[group]))


class Made:
    """Trials of all 27 architectures, or of some, with effects of known size and a little noise."""

    def __init__(
        self, trial: TrialOf, space: SearchSpace, gains: Mapping[tuple[int, str], float], noise: float = 0.002
    ) -> None:
        self._trial, self._space, self._gains, self._noise = trial, space, gains, noise
        self._rng = np.random.default_rng(0)
        self.trials: list[TrialRecord] = []

    def train(
        self, options: tuple[str, ...], *, seed: int = 0, origin: str = "sampler", end: float | None = None
    ) -> int:
        """Adds a training in full; `end`: its accuracy. Returns its number."""
        architecture = placed(self._space, options)
        true = 0.7 + sum(self._gains.get((place, option), 0.0) for place, option in enumerate(options))
        found = true + self._noise * float(self._rng.normal()) if end is None else end
        cost = 100.0 + sum(10 * (place + 1) for place, option in enumerate(options) if option != "none")
        number = len(self.trials)
        self.trials.append(
            self._trial(
                "complete",
                [0.4, 0.6, found],
                number=number,
                origin=origin,
                seed=seed,
                fingerprint=architecture.fingerprint,
                stop_epoch=EPOCHS,
                plan=architecture.to_dict(),
                costs={"params": Figure(value=cost, lower=cost, upper=cost, unit="", source="analytic")},
                values=(found, cost),
            )
        )
        return number

    def answer(self) -> Answer:
        found = answer(self.trials, OBJECTIVES, EPOCHS, self._space)
        assert found is not None
        return found


@pytest.fixture
def factorial(trial: TrialOf, space: SearchSpace) -> Made:
    """All 27 networks: SE in the third place adds 10 points, CBAM in the first costs 5; nothing else matters."""
    made = Made(trial, space, {(2, "se"): 0.10, (0, "cbam"): -0.05})
    for options in product(("none", "se", "cbam"), repeat=3):
        made.train(options, origin="hand:plain" if set(options) == {"none"} else "sampler")
    return made


def test_effects_have_their_sign_size_and_costs(factorial: Made, space: SearchSpace) -> None:
    found = factorial.answer()
    by_place = {(effect.place.label, effect.place.option): effect for effect in found.effects}
    first, _, third = (group.label for group in space.groups)
    assert [key for key, effect in by_place.items() if effect.gain.sign > 0] == [(third, "se")]
    assert [key for key, effect in by_place.items() if effect.gain.sign < 0] == [(first, "cbam")]
    best = by_place[third, "se"]
    assert best.gain.value == pytest.approx(0.10, abs=0.01)
    assert best.gain.low < 0.10 < best.gain.high
    assert best.costs["params"] == pytest.approx(30)
    assert best.trainings == 9
    assert best.more == 0
    assert all(effect.more != 0 for key, effect in by_place.items() if not effect.gain.sign)


def test_the_network_to_take_and_what_it_gains(factorial: Made) -> None:
    found = factorial.answer()
    taken = factorial.trials[found.take]
    assert next(iter(taken.architecture.placements["layer3.0"].values())).option == "se"
    assert found.over_baseline is not None
    assert factorial.trials[found.baseline or 0].origin.name == "plain"
    assert found.over_baseline.value == pytest.approx(0.10, abs=0.01)
    assert found.over_baseline.sign == 1
    assert found.baseline_best < 0.01
    assert [one.mean.value for one in found.standings] == sorted((s.mean.value for s in found.standings), reverse=True)
    assert all(one.mean.low <= one.mean.value <= one.mean.high for one in found.standings)
    assert sum(one.best for one in found.standings) == pytest.approx(1)


@pytest.mark.parametrize(("dear", "taken"), [(0.8005, "none none se"), (0.84, "se se se")])
def test_of_networks_that_are_level_the_cheapest_is_taken(
    trial: TrialOf, space: SearchSpace, dear: float, taken: str
) -> None:
    made = Made(trial, space, {})
    numbers = {}
    for options, end in (("none none none", 0.6), ("none none se", 0.8), ("se se se", dear), ("se se none", 0.7)):
        for seed in range(3):
            numbers.setdefault(options, made.train(tuple(options.split()), seed=seed, end=end + 0.004 * (seed - 1)))
    found = made.answer()
    assert found.standings[0].trial.number == numbers["se se se"]
    assert found.take == numbers[taken]


def test_the_cheapest_network_is_on_the_front(factorial: Made) -> None:
    found = factorial.answer()
    plain = next(one for one in found.standings if one.trial.number == 0)
    assert plain.on_front == 1
    members = front_by_means(found.standings, OBJECTIVES)
    assert members[0].number == 0
    assert found.take in {trial.number for trial in members}
    assert select(factorial.trials, OBJECTIVES, "best", found.standings).number == found.take
    assert select(factorial.trials, OBJECTIVES, "knee", found.standings) in members


def test_a_lucky_seed_is_drawn_towards_what_placements_explain(factorial: Made) -> None:
    lucky = factorial.train(("se", "se", "none"), seed=1, end=0.83)
    factorial.trials = [
        t for t in factorial.trials if t.number == lucky or t.fingerprint != factorial.trials[lucky].fingerprint
    ]
    standing = next(one for one in factorial.answer().standings if one.trial.number == lucky)
    assert standing.mean.value < 0.82
    assert standing.mean.low < 0.71


def test_an_unstable_network_is_named(factorial: Made) -> None:
    for seed, end in enumerate((0.56, 0.92, 0.60, 0.90), 1):
        number = factorial.train(("se", "none", "none"), seed=seed, end=end)
    for seed in (1, 2):
        factorial.train(("none", "none", "se"), seed=seed)
        factorial.train(("none", "none", "none"), seed=seed)
    fingerprint = factorial.trials[number].fingerprint
    assert {one.trial.fingerprint for one in factorial.answer().standings if one.unstable} == {fingerprint}


def test_a_minimised_metric_has_gains_where_it_falls(trial: TrialOf, space: SearchSpace) -> None:
    made = Made(trial, space, {(2, "se"): -0.10})
    for options in product(("none", "se"), repeat=3):
        made.train(options)
    found = answer(made.trials, (Objective("top1", "minimize"), COST), EPOCHS, space)
    assert found is not None
    assert [(effect.place.label, effect.gain.sign) for effect in found.effects if effect.gain.sign] == [
        (space.groups[2].label, 1)
    ]
    assert found.standings[0].mean.value == pytest.approx(0.6, abs=0.02)


def test_a_run_without_a_cost_among_its_objectives_has_an_answer(factorial: Made, space: SearchSpace) -> None:
    trials = [replace(trial, values=(trial.values or ())[:1]) for trial in factorial.trials]
    found = answer(trials, (METRIC,), EPOCHS, space)
    assert found is not None
    assert found.baseline == 0
    best = found.standings[0]
    assert best.on_front == best.best, "without a cost, the front is the best network"
    assert [trial.number for trial in front_by_means(found.standings, (METRIC,))] == [found.take]


def test_without_a_metric_or_with_two_networks_there_is_no_answer(factorial: Made, space: SearchSpace) -> None:
    assert answer(factorial.trials, (COST,), EPOCHS, space) is None
    assert answer(factorial.trials[:2], OBJECTIVES, EPOCHS, space) is None
    assert most_telling(factorial.trials[:2], OBJECTIVES, EPOCHS, space, left=9) is None


def two_alike(trial: TrialOf, space: SearchSpace, ends: tuple[float, float]) -> Made:
    """Nine networks; those of trials 1 and 2 cost the same and end with these accuracies, with two seeds each."""
    made = Made(trial, space, {}, noise=0.01)
    made.train(("none", "none", "none"), origin="hand:plain", end=0.60)
    for seed in (0, 1):
        for options, end in zip((("none", "none", "se"), ("none", "none", "cbam")), ends, strict=True):
            made.train(options, seed=seed, end=end + 0.004 * (-1) ** seed)
    for options in product(("se", "cbam"), repeat=2):
        made.train((*options, "none"), end=0.60 + 0.01 * float(np.random.default_rng(len(made.trials)).normal()))
    return made


def test_what_is_trained_next_is_the_winner_or_its_rival(trial: TrialOf, space: SearchSpace) -> None:
    made = two_alike(trial, space, (0.800, 0.794))
    assert most_telling(made.trials, OBJECTIVES, EPOCHS, space, left=30) in (1, 2)
    first = most_telling(made.trials, OBJECTIVES, EPOCHS, space, left=30, running={1: 5})
    assert first == 2, "of two networks, the one with fewer trainings under way"


def test_nothing_is_trained_where_nothing_is_to_be_decided(trial: TrialOf, space: SearchSpace) -> None:
    made = Made(trial, space, {}, noise=0.0005)
    for number, options in enumerate((("none", "none", "none"), ("none", "none", "se"), ("se", "se", "se"))):
        for seed in range(4):
            made.train(options, seed=seed, end=0.6 + 0.1 * number + 0.0005 * (-1) ** seed)
    assert most_telling(made.trials, OBJECTIVES, EPOCHS, space, left=50) is None
    assert most_telling(two_alike(trial, space, (0.8, 0.794)).trials, OBJECTIVES, EPOCHS, space, left=0) is None
