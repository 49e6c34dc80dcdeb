"""How many threads a proposal may use."""

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial
from threadpoolctl import threadpool_info, threadpool_limits

from nas.search.history import History
from nas.search.leveled import LeveledSampler
from nas.search.samplers import _Reseeded
from nas.search.surrogate import Levels
from nas.search.threads import _libraries, one_thread


@pytest.fixture(autouse=True)
def all_that_are_loaded_by_now() -> None:
    _libraries.cache_clear()


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info()}


@one_thread
def inside() -> set[int]:
    return threads()


@one_thread
def nested() -> set[int]:
    inside()
    return threads()


@one_thread
def broken() -> None:
    raise ArithmeticError


def test_one_during_the_call_and_as_many_as_before_after_it() -> None:
    np.linalg.eigh(np.eye(2))
    with threadpool_limits(2):
        assert threads() == {2}
        assert inside() == {1}
        assert threads() == {2}
        assert nested() == {1}
        with pytest.raises(ArithmeticError):
            broken()
        assert threads() == {2}


def ours(seen: list[set[int]]) -> BaseSampler:
    def propose(history: History, rng: np.random.Generator) -> tuple[Levels, dict[str, Any]]:
        seen.append(threads())
        return np.zeros(1, np.int64), {}

    return LeveledSampler(0, propose)


def optunas(seen: list[set[int]]) -> BaseSampler:
    class Sampler(RandomSampler):
        def sample_relative(
            self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
        ) -> dict[str, Any]:
            seen.append(threads())
            return super().sample_relative(study, trial, search_space)

    return _Reseeded(lambda seed: Sampler(seed=seed), 0)


@pytest.mark.parametrize("make", [ours, optunas])
def test_samplers_propose_with_one(make: Callable[[list[set[int]]], BaseSampler]) -> None:
    seen: list[set[int]] = []
    study = optuna.create_study(sampler=make(seen))
    with threadpool_limits(2):
        study.optimize(lambda trial: trial.suggest_int("x", 0, 3), n_trials=2)
    assert seen
    assert all(found == {1} for found in seen)
