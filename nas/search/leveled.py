"""Base of our own Optuna samplers: translates a study into levels for a proposer, and its levels into parameters."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from nas.search.history import StudyHistory
from nas.search.parameters import CLOSED, Axes, Axis
from nas.search.seeds import trial_seed
from nas.search.surrogate import Levels
from search_spaces import SearchSpace

Proposer: TypeAlias = Callable[[StudyHistory, np.random.Generator], tuple[Levels, Mapping[str, Any]]]
"""(trials, generator) -> the next levels [d], and the parameters of the trial that they were derived from (or an empty
mapping). Where a level is unchanged, that trial's value is used."""


class LeveledSampler(BaseSampler):
    """A sampler for any Optuna study; long and continuous ranges are searched in steps of an eighth.

    Args:
        seed: The proposal depends only on the seed, the trial's number and the study.
        propose: Proposes the next levels.
        space: Gives the parameters. None: parameters and their conditions are learnt from the study's trials.
    """

    def __init__(self, seed: int, propose: Proposer, space: SearchSpace | None = None) -> None:
        self._seed = seed
        self._propose = propose
        self._fixed = None if space is None else Axes.of_space(space)
        self._history: StudyHistory | None = None
        self._lock = threading.Lock()

    def infer_relative_search_space(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
    ) -> dict[str, BaseDistribution]:
        """The space's parameters, or else all parameters of finished trials with their latest distributions."""
        if self._fixed is not None:
            axes = self._fixed.axes
        else:
            with self._lock:
                axes = self._read(study, trial).axes.axes
        return {axis.name: axis.distribution for axis in axes}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A value for every parameter of `search_space`; the trial does not ask for closed parameters."""
        rng = np.random.default_rng(trial_seed(self._seed, trial.number))
        with self._lock:
            history = self._read(study, trial)
            axes = history.axes.axes
            levels, parent = self._propose(history, rng) if axes else (np.empty(0, np.int64), {})
        params: dict[str, Any] = {}
        if axes:
            for axis, level in zip(axes, levels.tolist(), strict=True):
                kept = level != CLOSED and axis.name in parent and axis.level(parent[axis.name]) == level
                if level != CLOSED:
                    params[axis.name] = parent[axis.name] if kept else axis.value(level, rng)
        for name, distribution in search_space.items():
            if name not in params:
                axis = Axis.of(name, distribution)
                params[name] = axis.value(int(rng.integers(axis.size)), rng)
        return {name: params[name] for name in search_space}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401  # Optuna's signature
        """A random value; Optuna calls this only for parameters that no finished trial has."""
        random = optuna.samplers.RandomSampler(seed=trial_seed(self._seed, trial.number, param_name))
        return random.sample_independent(study, trial, param_name, param_distribution)

    def _read(self, study: optuna.Study, trial: FrozenTrial) -> StudyHistory:
        if self._history is None or self._history.study is not study:
            self._history = StudyHistory(study, self._fixed)
        self._history.update(study.get_trials(deepcopy=False), but=trial.number)
        return self._history
