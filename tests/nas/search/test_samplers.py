"""Tests every sampler in plain Optuna studies: ours also with Optuna's contract suite and for their own features."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase
from optuna.trial import Trial, TrialState

from nas.search import Known, make_sampler
from nas.search.config import SamplerName
from nas.search.history import StudyHistory, Targets
from nas.search.pareto import hypervolume
from search_spaces import Architecture, SearchSpace

OURS = ("default", "regularized_evolution")
WEIGHTS = np.array([5.0, 3.0, 2.0, 1.0, 1.0, 0.5])
"""What one step of each of six axes of three levels is worth in the additive problem below."""


class TestDefaultContract(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: make_sampler("default", 0)


class TestEvolutionContract(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: make_sampler("regularized_evolution", 0)


def study_of(sampler: BaseSampler) -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)


def additive(trial: Trial) -> tuple[float, float]:
    """A level adds its axis's weight to the value. All cost the same, so the front uses the heaviest axes first."""
    levels = np.array([trial.suggest_categorical(f"x{i}", range(3)) for i in range(len(WEIGHTS))])
    return float(WEIGHTS @ levels), float(levels.sum())


def levels_of(trial: optuna.trial.FrozenTrial) -> list[int]:
    return [trial.params[f"x{i}"] for i in range(len(WEIGHTS))]


def run_additive(sampler: BaseSampler, trials: int) -> optuna.Study:
    study = study_of(sampler)
    study.optimize(additive, n_trials=trials)
    return study


@pytest.mark.parametrize("name", get_args(SamplerName))
def test_every_name_of_a_run_file_is_a_sampler(name: str) -> None:
    if name == "gp":
        pytest.importorskip("scipy")
    study = run_additive(make_sampler(name, 0), 4)
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 4


def test_an_unknown_name_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match="'best'; choose one of default, tpe"):
        make_sampler("best", 0)


def test_gp_names_the_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install scipy, or choose another sampler"):
        make_sampler("gp", 0)


@pytest.mark.parametrize("name", [*OURS, "tpe", "random"])
def test_a_restart_changes_nothing(name: str) -> None:
    through = run_additive(make_sampler(name, 3), 40)
    halted = run_additive(make_sampler(name, 3), 25)
    halted.sampler = make_sampler(name, 3)
    halted.optimize(additive, n_trials=15)
    assert [t.params for t in halted.trials] == [t.params for t in through.trials]


@pytest.mark.parametrize("name", ["nsga2", "gp"])
def test_a_trial_without_parameters_does_not_hide_those_of_others(name: str) -> None:
    if name == "gp":
        pytest.importorskip("scipy")
    study = study_of(make_sampler(name, 0))
    study.tell(study.ask(), [30.0, 1.0])  # a baseline outside the space
    study.optimize(additive, n_trials=12)
    asked = study.sampler.infer_relative_search_space(study, study.trials[-1])
    assert set(asked) == {f"x{i}" for i in range(len(WEIGHTS))}


def test_the_default_finds_more_than_random_does() -> None:
    def found(name: str) -> float:
        values = np.array([t.values for t in run_additive(make_sampler(name, 0), 60).trials])
        return hypervolume(values * [-1, 1], [0.0, 12.0])

    # The true front: levels are raised in the order of their axes' weights.
    steps = np.concatenate([[0.0], np.repeat(WEIGHTS, 2).cumsum()])
    whole = hypervolume(np.stack([-steps, np.arange(13.0)], axis=1), [0.0, 12.0])
    assert found("default") > 0.99 * whole > found("random")


def test_parallel_workers_get_different_proposals() -> None:
    study = run_additive(make_sampler("default", 1), 30)
    asked = []
    for _ in range(12):
        trial = study.ask()
        additive(trial)
        asked.append(tuple(trial.params.values()))
    tried = {tuple(t.params.values()) for t in study.get_trials(states=(TrialState.COMPLETE,))}
    assert len(set(asked)) == 12
    assert not tried & set(asked)


def test_parameters_that_stay_closed_are_not_asked_for() -> None:
    def objective(trial: Trial) -> tuple[float, float]:
        kind = trial.suggest_categorical("kind", ["none", "se", "aa"])
        gain = 0.0
        if kind == "se":
            gain = 1.0 / trial.suggest_categorical("reduction", [4, 8])
        if kind == "aa":
            gain = trial.suggest_float("kappa", 0.1, 0.5)
        return gain, float(kind != "none")

    study = study_of(make_sampler("default", 0))
    study.optimize(objective, n_trials=40)
    names = {"none": {"kind"}, "se": {"kind", "reduction"}, "aa": {"kind", "kappa"}}
    assert all(set(trial.params) == names[trial.params["kind"]] for trial in study.trials)
    assert max(trial.values[0] for trial in study.trials) > 0.45


def test_a_budget_is_learnt_from_rejected_proposals() -> None:
    study = study_of(make_sampler("default", 0))
    within = []
    for _ in range(60):
        trial = study.ask()
        levels = [trial.suggest_categorical(f"x{i}", range(3)) for i in range(10)]
        trial.set_constraint("cost", sum(levels) / 5 - 1)
        within.append(sum(levels) <= 5)
        if within[-1]:
            study.tell(trial, [float(np.arange(10) @ levels), float(sum(levels))])
        else:
            study.tell(trial, state=TrialState.PRUNED)
    # Of all candidates, 4 % are.
    assert np.mean(within[:10]) < 0.2
    assert np.mean(within[30:]) > 0.9


def test_a_constraint_may_be_broken_without_measure() -> None:
    study = study_of(make_sampler("default", 0))
    for _ in range(40):
        trial = study.ask()
        levels = [trial.suggest_categorical(f"x{i}", range(3)) for i in range(6)]
        over = sum(levels) - 4
        trial.set_constraint("cost", float("inf") if over > 0 else float(over))
        study.tell(trial, [float(np.arange(6) @ levels), float(sum(levels))])
    # Of all candidates, 23 % keep it.
    assert np.mean([trial.constraints["cost"] <= 0 for trial in study.trials[20:]]) > 0.35


def test_known_costs_are_used_and_known_architectures_are_not_proposed(space: SearchSpace) -> None:
    seen: set[str] = set()
    asked: list[Architecture] = []

    def cost(architecture: Architecture) -> float:
        return float(sum(map(len, architecture.placements.values())))

    def known(architecture: Architecture) -> Known:
        asked.append(architecture)
        return Known(values=(None, cost(architecture)), seen=architecture.fingerprint in seen)

    study = study_of(make_sampler("default", 0, space=space, known=known))
    for number in range(40):
        trial = study.ask()
        architecture = space.suggest(trial)
        assert number < 20 or architecture.fingerprint not in seen
        seen.add(architecture.fingerprint)
        study.tell(trial, [cost(architecture) ** 0.5, cost(architecture)])
    assert asked


def test_evolution_changes_one_parameter_of_a_young_trial() -> None:
    study = run_additive(make_sampler("regularized_evolution", 0), 60)
    every = [levels_of(trial) for trial in study.trials]
    for number in range(31, 60):
        young = every[number - 30 : number]
        assert any(sum(a != b for a, b in zip(every[number], parent, strict=True)) == 1 for parent in young)


def targets_of_curves(stopped: list[float]) -> Targets:
    """Ten trials that gain 0.2 between epoch 3 and the end, and others that were stopped at epoch 3."""
    study = study_of(optuna.samplers.RandomSampler(seed=0))
    distributions = {"x": optuna.distributions.CategoricalDistribution(list(range(20)))}

    def add(x: int, early: float, final: float | None) -> None:
        study.add_trial(
            optuna.trial.create_trial(
                params={"x": x},
                distributions=distributions,
                values=None if final is None else [final, float(x)],
                state=TrialState.PRUNED if final is None else TrialState.COMPLETE,
                intermediate_values={3: early},
                user_attrs={} if final is not None else {"costs": {"cost": {"value": float(x)}}},
            )
        )

    study.set_metric_names(["top1", "cost"])
    for i in range(10):
        add(i, 0.3 + 0.02 * i, 0.5 + 0.02 * i)
    for i, early in enumerate(stopped):
        add(10 + i, early, None)
    history = StudyHistory(study, None)
    history.update(study.trials)
    return history.targets(history.rows)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_stopped_trial_counts_with_its_extrapolated_value() -> None:
    targets = targets_of_curves([0.4, 0.2])
    # Objectives are minimised, so accuracies are negative.
    assert targets.values[10:, 0] == pytest.approx([-0.6, -0.4])
    assert targets.values[10:, 1].tolist() == [10.0, 11.0]
    assert targets.variances[10:, 0] == pytest.approx([0, 0], abs=1e-12)
    assert targets.finished.tolist() == [True] * 10 + [False] * 2


def unusual(trial: Trial) -> tuple[float, float, float]:
    """Three objectives, floats (one on a logarithmic scale), integer ranges, and branches with their own parameters."""
    kind = trial.suggest_categorical("kind", ["line", "bowl", "off"])
    quality = 0.0
    if kind == "line":
        quality = 0.5 + 0.4 * trial.suggest_float("slope", -2.0, 2.0) / 2
    if kind == "bowl":
        distance = (np.log10(trial.suggest_float("rate", 1e-4, 1.0, log=True)) + 2) ** 2
        quality = 1.2 - 0.2 * distance - 0.01 * abs(trial.suggest_int("depth", 1, 40) - 25)
    steps = [trial.suggest_int(f"steps{i}", 0, 4) for i in range(4)]
    quality += 0.3 * steps[0] - 0.05 * steps[1]
    # Slightly over a third of all candidates break it.
    trial.set_constraint("steps", float(sum(steps) - 9))
    return quality, float(sum(steps)), float(abs(steps[2] - steps[3]) + (kind != "off"))


def test_an_unusual_study_is_searched_better_than_at_random() -> None:
    def found(name: str, seed: int) -> float:
        study = optuna.create_study(directions=["maximize", "minimize", "minimize"], sampler=make_sampler(name, seed))
        for _ in range(12):
            # Five workers: their proposals are made before any of their results is known.
            batch = [study.ask() for _ in range(5)]
            for trial, values in [(trial, unusual(trial)) for trial in batch]:
                study.tell(trial, values)
        assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 60
        kept = [t.values for t in study.trials if t.constraints["steps"] <= 0]
        return hypervolume(np.array(kept) * [-1, 1, 1], [0.0, 10.0, 4.0])

    shares = [found("default", seed) / found("random", seed) for seed in range(3)]
    assert min(shares) > 1.0
    assert np.mean(shares) > 1.1


def test_of_many_trials_the_best_and_some_of_all_ages_are_used() -> None:
    study = run_additive(make_sampler("random", 0), 400)
    history = StudyHistory(study, None)
    history.update(study.trials)
    seen = history.sample()
    assert len(seen) == 256
    number_of = {id(row): number for number, row in enumerate(history.rows)}
    numbers = [number_of[id(row)] for row in seen]
    assert len(set(numbers)) == 256
    front = {trial.number for trial in study.best_trials}
    assert front <= set(numbers)
    rest = sorted(numbers[128:])
    assert rest[0] < 20
    assert rest[-1] > 380
