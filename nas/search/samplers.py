"""The samplers by name. Each is an Optuna `BaseSampler` that keeps no state between trials.

The proposal for trial n depends only on the seed, n and the study, so a resumed run continues as if not interrupted.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from nas.search.default import FrontNeighbours, KnownOf
from nas.search.evolution import evolve
from nas.search.leveled import LeveledSampler
from nas.search.optuna_private import only
from nas.search.seeds import trial_seed
from nas.search.threads import one_thread
from search_spaces import SearchSpace


def make_sampler(
    name: str, seed: int, space: SearchSpace | None = None, *, known: KnownOf | None = None
) -> BaseSampler:
    """A sampler for any Optuna study.

    Args:
        name: ``default``, ``tpe``, ``nsga2``, ``gp``, ``random`` or ``regularized_evolution``.
        seed: Seed of all random draws.
        space: With it, ``default`` and ``regularized_evolution`` use the structure of the space; without it, they learn
            the parameters from the study's trials.
        known: Gives the costs that need no training, for ``default``; only with `space`.

    Raises:
        ValueError: There is no sampler of that name, or ``gp`` without scipy installed.
    """
    if name not in _MAKERS:
        raise ValueError(f"there is no sampler {name!r}; choose one of {', '.join(_MAKERS)}")
    return _MAKERS[name](_Asked(seed, space, known))


def learns_from_complete_only(name: str) -> bool:
    """Whether a sampler ignores pruned trials, so that infeasible trials must be stored as complete."""
    return name in ("nsga2", "gp")


def _proposed(study: optuna.Study) -> optuna.Study:
    """The study without trials that have no parameters, such as baselines outside the space.

    Optuna's samplers learn from the parameters that all trials share. A single trial without parameters would leave
    none.
    """
    return only(study, lambda trial: bool(trial.params) or not trial.state.is_finished())


class _Reseeded(BaseSampler):
    """Makes a new sampler for every trial, seeded by its number, so that a restart does not change its draws."""

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._current: tuple[int, BaseSampler] | None = None

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if self._current is None or self._current[0] != trial.number:
            self._current = (trial.number, self._make(trial_seed(self._seed, trial.number)))
        return self._current[1]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(_proposed(study), trial)

    @one_thread
    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(_proposed(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401  # Optuna's signature
        return self._of(trial).sample_independent(_proposed(study), trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._of(trial).before_trial(_proposed(study), trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._of(trial).after_trial(_proposed(study), trial, state, values)


class _Asked(NamedTuple):
    """Arguments of the functions that make samplers; most use only the seed."""

    seed: int
    space: SearchSpace | None
    known: KnownOf | None


def _random(asked: _Asked) -> BaseSampler:
    return _Reseeded(lambda trial: optuna.samplers.RandomSampler(seed=trial), asked.seed)


def _tpe(asked: _Asked) -> BaseSampler:
    return _Reseeded(lambda trial: optuna.samplers.TPESampler(seed=trial), asked.seed)


def _nsga2(asked: _Asked) -> BaseSampler:
    return _Reseeded(lambda trial: optuna.samplers.NSGAIISampler(population_size=20, seed=trial), asked.seed)


def _gp(asked: _Asked) -> BaseSampler:
    if importlib.util.find_spec("scipy") is None:
        raise ValueError(
            "the sampler gp needs scipy, which is not installed: pip install scipy, or choose another sampler"
        )
    return _Reseeded(lambda trial: optuna.samplers.GPSampler(seed=trial), asked.seed)


def _default(asked: _Asked) -> BaseSampler:
    return LeveledSampler(asked.seed, FrontNeighbours(asked.space, asked.known), asked.space)


def _regularized_evolution(asked: _Asked) -> BaseSampler:
    return LeveledSampler(asked.seed, evolve, asked.space)


_MAKERS: dict[str, Callable[[_Asked], BaseSampler]] = {
    "default": _default,
    "tpe": _tpe,
    "nsga2": _nsga2,
    "gp": _gp,
    "random": _random,
    "regularized_evolution": _regularized_evolution,
}
