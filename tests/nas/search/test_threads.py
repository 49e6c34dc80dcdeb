"""Tests the number of threads that a proposal uses."""

from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial
from threadpoolctl import threadpool_info, threadpool_limits

from nas.search import Known, make_sampler
from nas.search.samplers import _Reseeded
from nas.search.threads import _libraries, one_thread
from search_spaces import Architecture, SearchSpace


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


def test_one_thread_during_the_call_and_the_former_number_after_it() -> None:
    np.linalg.eigh(np.eye(2))
    with threadpool_limits(2):
        assert threads() == {2}
        assert inside() == {1}
        assert threads() == {2}
        assert nested() == {1}
        with pytest.raises(ArithmeticError):
            broken()
        assert threads() == {2}


def test_the_default_uses_one_thread_for_matrices_and_all_to_measure_costs(
    space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    factored: list[set[int]] = []
    measured: list[set[int]] = []

    factor = np.linalg.cholesky

    def cholesky(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        factored.append(threads())
        return factor(matrix)

    def known(architecture: Architecture) -> Known:
        measured.append(threads())
        return Known((None, float(sum(map(len, architecture.placements.values())))))

    monkeypatch.setattr(np.linalg, "cholesky", cholesky)
    sampler = make_sampler("default", 0, space=space, known=known)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    with threadpool_limits(2):
        for _ in range(24):
            trial = study.ask()
            placed = float(sum(map(len, space.suggest(trial).placements.values())))
            study.tell(trial, [placed**0.5, placed])
    assert factored
    assert measured
    assert all(found == {1} for found in factored)
    assert all(found == {2} for found in measured)


def test_optunas_samplers_propose_with_one_thread() -> None:
    seen: list[set[int]] = []

    class Sampler(RandomSampler):
        def sample_relative(
            self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
        ) -> dict[str, Any]:
            seen.append(threads())
            return super().sample_relative(study, trial, search_space)

    study = optuna.create_study(sampler=_Reseeded(lambda seed: Sampler(seed=seed), 0))
    with threadpool_limits(2):
        study.optimize(lambda trial: trial.suggest_int("x", 0, 3), n_trials=2)
    assert seen == [{1}, {1}]
