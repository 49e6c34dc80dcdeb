"""All uses of Optuna's private interface. No other file uses it.

`pyproject.toml` allows the versions of Optuna that this was checked with. If another version lacks a part,
`tests/nas/search/test_optuna_private.py` names it.

Optuna's journal storage searches all trials in two cases: when a parameter is set that few trials have, and when a
trial is asked for. Both take longer as the run grows. `IndexedStorage` keeps indices instead.
"""

import copy
from collections.abc import Callable, Container
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, check_distribution_compatibility, json_to_distribution
from optuna.storages import JournalStorage
from optuna.storages.journal._storage import JournalStorageReplayResult
from optuna.trial import FrozenTrial, TrialState

_WAITING = (TrialState.WAITING,)


class IndexedStorage(JournalStorage):
    """Optuna's journal storage, with a time per trial that does not grow with the number of trials."""

    def _sync_with_backend(self) -> None:
        if not isinstance(self._replay_result, _Replay):
            self._replay_result = _Replay(self._worker_id_prefix)
        super()._sync_with_backend()


class _Replay(JournalStorageReplayResult):
    """Keeps the first distribution of each parameter, and the trials in state WAITING."""

    def __init__(self, worker_id_prefix: str) -> None:
        super().__init__(worker_id_prefix)
        self._asked: dict[tuple[int, str], BaseDistribution] = {}
        self._waiting: dict[int, int] = {}
        """Trial -> its study."""
        self._parsed: dict[str, BaseDistribution] = {}

    def _apply_create_trial(self, log: dict[str, Any]) -> None:
        super()._apply_create_trial(log)
        trial_id = len(self._trials) - 1
        if self._trial_id_to_study_id.get(trial_id) != log["study_id"]:
            return
        trial = self._trials[trial_id]
        for name, distribution in trial.distributions.items():
            self._asked.setdefault((log["study_id"], name), distribution)
        if trial.state == TrialState.WAITING:
            self._waiting[trial_id] = log["study_id"]

    def _apply_set_trial_param(self, log: dict[str, Any]) -> None:
        trial_id, name, text = log["trial_id"], log["param_name"], log["distribution"]
        if not self._trial_exists_and_updatable(trial_id, log):
            return
        if text not in self._parsed:
            self._parsed[text] = json_to_distribution(text)
        distribution = self._parsed[text]
        first = self._asked.setdefault((self._trial_id_to_study_id[trial_id], name), distribution)
        try:
            check_distribution_compatibility(first, distribution)
        except ValueError:
            if self._is_issued_by_this_worker(log):
                raise
            return
        trial = copy.copy(self._trials[trial_id])
        trial.params = {**trial.params, name: distribution.to_external_repr(log["param_value_internal"])}
        trial.distributions = {**trial.distributions, name: distribution}
        self._trials[trial_id] = trial

    def _apply_set_trial_state_values(self, log: dict[str, Any]) -> None:
        super()._apply_set_trial_state_values(log)
        trial = self._trials.get(log["trial_id"])
        if trial is not None and trial.state != TrialState.WAITING:
            self._waiting.pop(log["trial_id"], None)

    def get_all_trials(self, study_id: int, states: Container[TrialState] | None) -> list[FrozenTrial]:
        if states == _WAITING:
            return [self._trials[trial] for trial, study in self._waiting.items() if study == study_id]
        return super().get_all_trials(study_id, states)


def trial_of(study: optuna.Study, number: int) -> FrozenTrial:
    """The stored trial, not a copy. Do not change it."""
    return study._storage.get_trial(trial_id_of(study, number))


def trial_id_of(study: optuna.Study, number: int) -> int:
    """The id of a trial in the storage, where it is unique among all studies."""
    return study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)


def set_user_attr(study: optuna.Study, number: int, name: str, value: object) -> None:
    """Like `optuna.Trial.set_user_attr`, but creates no `optuna.Trial`, which would call the sampler again."""
    study._storage.set_trial_user_attr(trial_id_of(study, number), name, value)


def only(study: optuna.Study, wanted: Callable[[FrozenTrial], bool]) -> optuna.Study:
    """A view of the study, for a sampler, that has only the wanted trials."""
    view, get_trials = copy.copy(study), study._get_trials

    def some(*args: Any, **settings: Any) -> list[FrozenTrial]:
        return [trial for trial in get_trials(*args, **settings) if wanted(trial)]

    view._get_trials = some  # type: ignore[method-assign]
    return view
