"""The engine's trials, in memory and in the journal.

Every method that changes a trial also writes the change. When a run is opened, the memory is rebuilt from the journal.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias, get_args

import optuna
from optuna.trial import TrialState

from nas.search import records
from nas.search.journal import Journal
from nas.search.optuna_private import set_user_attr, trial_id_of, trial_of
from nas.search.records import EpochRecord, Origin, Status, TrialRecord, last_without_gap, read_trials
from search_spaces import Architecture, Value

EntryState: TypeAlias = Literal["queued", "running", "waiting", "complete", "stopped", "failed", "rejected"]

_STATE_OF: Mapping[Status, EntryState] = {
    "active": "queued",
    "complete": "complete",
    "stopped": "stopped",
    "failed": "failed",
    "rejected": "rejected",
}


class Estimate(Protocol):
    """A cost with its bounds; see `nas.costs.CostEstimate`."""

    @property
    def value(self) -> float:
        """The cost, in `unit`."""

    @property
    def lower(self) -> float:
        """Its lower bound."""

    @property
    def upper(self) -> float:
        """Its upper bound."""

    @property
    def unit(self) -> str:
        """The unit, or empty for counts."""

    @property
    def source(self) -> str:
        """``analytic``, ``predicted`` or ``measured``."""


class BudgetVerdict(Protocol):
    """Whether an architecture is within budget; see `nas.costs.Verdict`."""

    @property
    def feasible(self) -> bool:
        """Whether every limit holds."""

    @property
    def stage(self) -> str:
        """The kind of figures that decided: ``static``, ``predicted`` or ``measured``."""

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        """Measure -> its cost, for all measures that were checked."""

    @property
    def violations(self) -> Mapping[str, float]:
        """Measure -> upper bound / limit - 1."""


@dataclass
class Entry:
    """A launched trial. ``queued``: to be trained up to `stop_epoch`; ``waiting``: at that rung."""

    number: int
    plan: Mapping[str, Any]
    fingerprint: str
    origin: Origin
    seed: int
    bracket: int
    stop_epoch: int
    costs: Mapping[str, float]
    state: EntryState
    epochs: dict[int, EpochRecord] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)

    @cached_property
    def architecture(self) -> Architecture:
        """Built on first use, because most finished trials never need it."""
        return Architecture.from_dict(self.plan)

    def forget_architecture(self) -> None:
        """Frees its memory; the next use builds it again."""
        self.__dict__.pop("architecture", None)

    @property
    def active(self) -> bool:
        """Whether the trial has not ended."""
        return self.state in ("queued", "running", "waiting")

    @property
    def last_epoch(self) -> int:
        """The last epoch of the recorded epochs without a gap; 0 if there is none."""
        return last_without_gap(self.epochs)


class TrialLedger:
    """The trials of a run. Attributes are read-only; `entries` and `active` map trial numbers to trials, in order."""

    def __init__(self, journal: Journal) -> None:
        """Rebuilds everything from the journal, and ends the proposals that a dead driver did not finish."""
        self.study = journal.study
        self.entries: dict[int, Entry] = {}
        self.active: dict[int, Entry] = {}
        self.by_state: dict[EntryState, dict[int, Entry]] = {state: {} for state in get_args(EntryState)}
        """State -> the trials in it by number, in the order in which they got there."""
        self.first: dict[str, int] = {}
        """Fingerprint -> the first trial with it that was launched or over budget."""
        self.launches: Counter[str] = Counter()
        self.brackets: Counter[int] = Counter()
        self.baselines: set[str] = set()
        self.rejected: Counter[str] = Counter()
        self.duplicates = 0
        self.repetitions: list[Entry] = []
        """Trainings of known networks with new seeds."""
        self.epochs = 0
        """Recorded epochs of all trials."""
        self.known_in_space = 0
        self._journal = journal
        with journal.commit():
            for trial in read_trials(self.study):
                self._restore(trial)

    # --- proposals

    def ask(self, params: Mapping[str, Value] | None = None) -> optuna.Trial:
        """A new trial, with the parameters `params` if given."""
        if params is not None:
            self.study.enqueue_trial(dict(params))
        return self.study.ask()

    def launch(
        self,
        trial: optuna.Trial,
        architecture: Architecture,
        *,
        origin: Origin,
        seed: int,
        bracket: int,
        stop_epoch: int,
        estimates: Mapping[str, Estimate],
        verdict: BudgetVerdict | None,
    ) -> Entry:
        """Makes a proposal a queued trial. When this returns, the trial is on the disk."""
        with self._journal.commit():
            self._describe(trial, architecture.fingerprint, origin, estimates, verdict)
            trial.set_user_attr(records.SEED, seed)
            trial.set_user_attr(records.BRACKET, bracket)
            trial.set_user_attr(records.STOP_EPOCH, stop_epoch)
            # The last attribute: a trial with an architecture counts as launched.
            trial.set_user_attr(records.ARCHITECTURE, architecture.to_dict())
        entry = Entry(
            number=trial.number,
            # The study's own copy, to save memory.
            plan=trial_of(self.study, trial.number).user_attrs[records.ARCHITECTURE],
            fingerprint=architecture.fingerprint,
            origin=origin,
            seed=seed,
            bracket=bracket,
            stop_epoch=stop_epoch,
            costs={measure: estimate.value for measure, estimate in estimates.items()},
            state="queued",
        )
        entry.architecture = architecture
        self._remember(entry, in_space=bool(trial.params))
        return entry

    def reject(
        self,
        trial: optuna.Trial,
        architecture: Architecture,
        *,
        origin: Origin,
        estimates: Mapping[str, Estimate],
        verdict: BudgetVerdict,
        values: Sequence[float] | None,
    ) -> None:
        """Ends a proposal that is over budget: as complete with `values`, or as pruned if they are None."""
        self._describe(trial, architecture.fingerprint, origin, estimates, verdict)
        trial.set_user_attr(records.REJECTED, verdict.stage)
        self._tell_infeasible(trial.number, values)
        self._know(architecture.fingerprint, trial.number, in_space=bool(trial.params))
        self._count_origin(origin)
        self.rejected[verdict.stage] += 1

    def repeat(self, trial: optuna.Trial, fingerprint: str, *, origin: Origin) -> None:
        """Ends a proposal that was already made, with the first trial's result if there is one."""
        first = self.first[fingerprint]
        known = trial_of(self.study, first)
        trial.set_user_attr(records.FINGERPRINT, fingerprint)
        trial.set_user_attr(records.ORIGIN, origin.stored)
        trial.set_user_attr(records.DUPLICATE_OF, first)
        for measure, violation in known.constraints.items():
            trial.set_constraint(measure, violation)
        if known.state.is_finished():
            self.study.tell(trial, known.values if known.state == TrialState.COMPLETE else None, known.state)
        else:
            # There is no result yet. Samplers ignore failed trials.
            self.study.tell(trial, state=TrialState.FAIL)
        self._count_origin(origin)
        self.duplicates += 1

    # --- training

    def record(self, entry: Entry, record: EpochRecord) -> None:
        """Adds an epoch, or replaces its earlier record."""
        self.epochs += record.epoch not in entry.epochs
        entry.epochs[record.epoch] = record
        entry.losses.clear()
        with self._journal.group():
            self._set(entry.number, *records.epoch_attribute(record))

    def climb(self, entry: Entry, stop_epoch: int) -> None:
        """Queues a trial for training to its next rung."""
        entry.stop_epoch = stop_epoch
        self.move(entry, "queued")
        with self._journal.group():
            self._set(entry.number, records.STOP_EPOCH, stop_epoch)

    def move(self, entry: Entry, state: EntryState) -> None:
        """Changes the state of a trial; nothing is written."""
        del self.by_state[entry.state][entry.number]
        entry.state = state
        self.by_state[state][entry.number] = entry

    def complete(self, entry: Entry, values: Sequence[float]) -> None:
        """Ends a trial that was trained to full length."""
        with self._journal.commit():
            self.study.tell(entry.number, list(values))
        self._end(entry, "complete")

    def stop(self, entries: Sequence[Entry]) -> None:
        """Ends trials early."""
        with self._journal.commit():
            for entry in entries:
                self.study.tell(entry.number, state=TrialState.PRUNED)
        for entry in entries:
            self._end(entry, "stopped")

    def fail(self, entry: Entry, reason: str, detail: str = "") -> None:
        """Ends a trial that cannot be trained."""
        with self._journal.commit():
            self._set(entry.number, records.REASON, reason)
            if detail:
                self._set(entry.number, records.DETAIL, detail)
            self.study.tell(entry.number, state=TrialState.FAIL)
        self._end(entry, "failed")

    def out_of_memory(self, entry: Entry, reason: str, values: Sequence[float] | None) -> None:
        """Ends a trial that ran out of memory; `values` as in `reject`."""
        with self._journal.commit():
            self._set(entry.number, records.REASON, reason)
            self._set(entry.number, records.REJECTED, records.BY_TRAINING)
            optuna.Trial(self.study, trial_id_of(self.study, entry.number)).set_constraint("out_of_memory", 1.0)
            self._tell_infeasible(entry.number, values)
        self.rejected[records.BY_TRAINING] += 1
        self._end(entry, "rejected")

    # --- writing

    def _describe(
        self,
        trial: optuna.Trial,
        fingerprint: str,
        origin: Origin,
        estimates: Mapping[str, Estimate],
        verdict: BudgetVerdict | None,
    ) -> None:
        trial.set_user_attr(records.FINGERPRINT, fingerprint)
        trial.set_user_attr(records.ORIGIN, origin.stored)
        trial.set_user_attr(records.COSTS, {measure: _plain(estimate) for measure, estimate in estimates.items()})
        if verdict is not None:
            violations = dict(verdict.violations)
            budget = {"feasible": verdict.feasible, "stage": verdict.stage, "violations": violations}
            trial.set_user_attr(records.BUDGET, budget)
            for measure, violation in violations.items():
                trial.set_constraint(measure, violation)

    def _tell_infeasible(self, number: int, values: Sequence[float] | None) -> None:
        if values is None:
            self.study.tell(number, state=TrialState.PRUNED)
        else:
            self.study.tell(number, list(values), TrialState.COMPLETE)

    def _set(self, number: int, name: str, value: object) -> None:
        set_user_attr(self.study, number, name, value)

    # --- memory

    @property
    def searched(self) -> int:
        """The number of launched trials, without repetitions."""
        return len(self.entries) - len(self.repetitions)

    @property
    def searched_epochs(self) -> int:
        """Recorded epochs of all trials but repetitions."""
        return self.epochs - sum(len(entry.epochs) for entry in self.repetitions)

    def _remember(self, entry: Entry, *, in_space: bool) -> None:
        self.entries[entry.number] = entry
        self.by_state[entry.state][entry.number] = entry
        self.epochs += len(entry.epochs)
        if entry.active:
            self.active[entry.number] = entry
        self._know(entry.fingerprint, entry.number, in_space=in_space)
        self._count_origin(entry.origin)
        self.launches[entry.fingerprint] += 1
        self.brackets[entry.bracket] += 1
        if entry.origin.is_finalist:
            self.repetitions.append(entry)

    def _know(self, fingerprint: str, number: int, *, in_space: bool) -> None:
        if fingerprint not in self.first:
            self.first[fingerprint] = number
            self.known_in_space += in_space

    def _count_origin(self, origin: Origin) -> None:
        if origin.is_baseline:
            self.baselines.add(origin.name)

    def _end(self, entry: Entry, state: EntryState) -> None:
        self.move(entry, state)
        entry.forget_architecture()
        del self.active[entry.number]

    def _restore(self, trial: TrialRecord) -> None:
        if not trial.ended and trial.status != "active":
            # The driver died before it recorded how the proposal ended.
            if trial.status == "unlaunched":
                self._set(trial.number, records.REASON, "the driver died before it launched this trial")
            self.study.tell(trial.number, state=TrialState.PRUNED if trial.status == "rejected" else TrialState.FAIL)
        if trial.status == "duplicate":
            self._count_origin(trial.origin)
            self.duplicates += 1
            return
        if trial.rejected_by is not None:
            self.rejected[trial.rejected_by] += 1
        if trial.plan is not None:
            entry = Entry(
                number=trial.number,
                plan=trial.plan,
                fingerprint=trial.fingerprint,
                origin=trial.origin,
                seed=trial.seed,
                bracket=trial.bracket,
                stop_epoch=trial.stop_epoch,
                costs={measure: figure.value for measure, figure in trial.costs.items()},
                state=_STATE_OF[trial.status],
                epochs=dict(trial.epochs),
            )
            self._remember(entry, in_space=bool(trial.params))
        elif trial.status == "rejected":
            self._know(trial.fingerprint, trial.number, in_space=bool(trial.params))
            self._count_origin(trial.origin)


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "lower": estimate.lower,
        "upper": estimate.upper,
        "unit": estimate.unit,
        "source": estimate.source,
    }
