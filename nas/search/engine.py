"""Decides what to train next and for how long, and records the results; all its state is in the journal.

The engine does not depend on Ray or on trainers. A driver asks for jobs (`Engine.next`), has them trained, and reports
epochs and ends (`Engine.report`, `Engine.finish`). Only one thread at a time may use it.

The crash protocol (docs/architecture.md, "The journal") in short: a trial's attribute ``architecture`` means that it
was launched, `tell` means that it ended, and there is one attribute per trained epoch. An event that is not in the
journal did not happen; an event in the journal is never repeated. All other state is rebuilt from the journal, so to
resume a run is to open its journal.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

import optuna

from nas.search.config import SearchConfig
from nas.search.default import Known
from nas.search.gain import expected_gains, most_promising
from nas.search.history import StudyHistory
from nas.search.journal import Journal
from nas.search.ledger import BudgetVerdict, Entry, Estimate, TrialLedger
from nas.search.lines import JournalError
from nas.search.metrics import Objective, metric_among
from nas.search.parameters import Axes
from nas.search.pareto import Front, Points, is_front, minimised, relative_hypervolume
from nas.search.records import (
    BY_ESTIMATE,
    FALLBACK,
    REASON,
    SAMPLER,
    EpochRecord,
    Job,
    Origin,
    Outcome,
    TrialRecord,
    objectives_in,
    read_trials,
)
from nas.search.rungs import FEWEST_TO_DOUBT, below_the_end, choose_bracket, in_better_half, promotable, tells
from nas.search.samplers import learns_from_complete_only, make_sampler
from search_spaces import Architecture, SearchSpace, Value
from search_spaces.errors import named

_PROPOSALS_PER_CALL = 100
_PROPOSING_S = 0.5
"""After this time a call considers no further proposal, because its caller must handle signals and update a display."""

_REPEATS_BEFORE_FALLBACK = 3
_REJECTIONS_IN_A_ROW = 500
_FAULTY_TRIALS, _FAULTS = 3, 6
"""The run ends after faults of the machine in so many trials, or so many faults, without an epoch in between."""
_LOSSES_IN_A_ROW = {"machine": 10, "lost": 3, "node_lost": 10}
"""A trial fails after so many losses of a kind without an epoch in between. Preemptible nodes are lost often, so ten
losses in a row are allowed; a trial that lost ten nodes in a row probably causes the losses."""
_NEAR_MISS_AFTER = 24
_ROUNDING = 1e-6
_SHARE_TO_COMPARE = 6
_TOLD_AGAIN_AFTER = 16
"""A rung is compared with the end again when the complete trials have grown by more than a sixteenth."""
_RANKED_AGAIN_AFTER = 64
"""A rung is ranked again when more results came than a 64th of its trials."""
_TRIES_AT_RANDOM = 100
_REFERENCE = "reference"
_FAULTS_OF_THE_MACHINE = (OSError, MemoryError)
"""Errors that no proposal causes. They end the run, which can be resumed."""


class Costs(Protocol):
    """The source of costs; see `nas.costs.CostModel`."""

    def estimate(self, architecture: Architecture, measure: str) -> Estimate:
        """The cost of an architecture; measured only if it cannot be estimated otherwise."""

    def must_measure(self, architecture: Architecture, measure: str) -> bool:
        """Whether an estimate would have to be measured."""

    def record(self, architecture: Architecture, measure: str, value: float) -> Estimate:
        """Stores a value that was observed during training."""


class Limits(Protocol):
    """The limits of the costs; see `nas.costs.Budget`."""

    @property
    def limits(self) -> Mapping[str, float]:
        """Measure -> its largest allowed value."""

    def check(self, architecture: Architecture) -> BudgetVerdict:
        """Whether an architecture is within every limit."""


class Decider(Protocol):
    """Chooses what is trained again after the search; see `nas.analysis.most_telling`."""

    def __call__(self, trials: Sequence[TrialRecord], *, left: int, running: Mapping[int, int]) -> int | None:
        """The trial whose network is trained next with a new seed; None: no training would tell more.

        ``left``: trainings that may still be started. ``running``: trial -> its trainings that are under way.
        """


@dataclass(frozen=True)
class _NoEstimate:
    """The verdict on a proposal whose costs cannot be estimated: it is rejected, and the search continues."""

    reason: str
    feasible: bool = False
    stage: str = BY_ESTIMATE
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    violations: Mapping[str, float] = field(default_factory=lambda: {BY_ESTIMATE: 1.0})


@dataclass(frozen=True)
class Summary:
    """The state of a run.

    ``target``: number of trials requested; ``waiting``: trials at a rung or queued; ``stopped``: trials stopped early;
    ``rejected``: proposals by the stage that rejected them; ``repetitions``: trainings with new seeds, launched and
    allowed; ``epochs``: all epochs trained; ``best``: the best training metric of the complete trials;
    ``hypervolume``: of the front, as a share of the box below `Engine.reference`; ``exhausted``: why proposals ended
    before the target.
    ``rejected_in_a_row``: proposals rejected since the last launch; ``nearest``: the one least over budget among them,
    as measure -> (limit, value) for each exceeded limit; empty for fewer than 24 rejections. ``silent``: the rungs
    whose values say nothing about the end, so that no trial is stopped there.
    """

    target: int
    launched: int
    complete: int
    running: int
    waiting: int
    stopped: int
    failed: int
    rejected: Mapping[str, int]
    duplicates: int
    repetitions: int
    repetitions_complete: int
    epochs: int
    best: float | None
    front: int
    hypervolume: float
    exhausted: str | None
    rejected_in_a_row: int = 0
    nearest: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    silent: tuple[int, ...] = ()


class Engine:
    """A search over a space.

    Args:
        journal: Of a new run, or of one to resume.
        space: The space of proposals.
        config: The settings of the search.
        objectives: In the order and with the directions and ranges of the journal. At most one is a metric of training;
            the others are costs.
        epochs: The full length of a trial.
        costs: Source of the costs among the objectives.
        budget: Architectures over it are never trained. None: no limits.
        baselines: Trained first and to full length, also outside the space. None: the space's own.
        survey: Train so many of the first complete trials again, each with so many new seeds (`nas proxy`).
        decide: Chooses what is trained again after the search. None: nothing.

    Raises:
        ValueError: The objectives do not fit the journal's directions, or `config.min_epochs` exceeds `epochs`.
    """

    def __init__(
        self,
        journal: Journal,
        space: SearchSpace,
        config: SearchConfig,
        *,
        objectives: Sequence[Objective],
        epochs: int,
        costs: Costs,
        budget: Limits | None = None,
        baselines: Mapping[str, Architecture] | None = None,
        survey: tuple[int, int] | None = None,
        decide: Decider | None = None,
    ) -> None:
        self._survey = survey
        self._decide = decide
        self._objectives = tuple(objectives)
        self._directions = [objective.direction for objective in objectives]
        found = objectives_in(journal.study)
        created_for = [objective.direction for objective in found]
        if created_for != self._directions:
            raise ValueError(
                f"the objectives' directions are {self._directions}, the journal was made for {created_for}"
            )
        place = metric_among([objective.metric for objective in objectives])
        self._metric: Objective | None = None
        if place is not None:
            self._metric, stored = self._objectives[place], found[place]
            if (stored.low, stored.high) != (self._metric.low, self._metric.high):
                raise ValueError(
                    f"the objective {self._metric.metric} has the range {self._metric.low:g} to {self._metric.high:g}, "
                    f"but the journal was made for {stored.low:g} to {stored.high:g}"
                )
        self._journal = journal
        self._space = space
        self._config = config
        self._epochs = epochs
        self._costs = costs
        self._budget = budget
        self._baselines = dict(space.baselines() if baselines is None else baselines)
        self._brackets = config.brackets(epochs)
        self._ledger = TrialLedger(journal)
        self._study = journal.study
        self._study.sampler = make_sampler(config.sampler, config.seed, space=space, known=self._known)

        self.fault: str | None = None
        """Why the engine gives out no more jobs before the end of the run: the machine keeps failing."""
        self._faults: Counter[int] = Counter()
        """Trial -> its number of machine faults since the last epoch of any trial."""
        self._repeats = 0
        self._rejections = 0
        self._nearest: dict[str, float] = {}
        self._exhausted: str | None = None
        self._again: tuple[int, Entry | None] | None = None
        """`_changes` at the last choice of a network to train again, and the choice."""
        self._unexplored = space.architectures()
        self._history = StudyHistory(self._study, Axes.of_space(space))
        self._waiting: dict[tuple[int, int], set[int]] = {}
        """(Rung, bracket) -> the trials that wait there."""
        self._at_rung: dict[tuple[int, int], dict[int, list[float]]] = {}
        """(Rung, bracket) -> the points there. `_points_at` collects them once; later results are added."""
        self._best_at: dict[tuple[int, int], tuple[float, list[int]]] = {}
        """(Rung, bracket) -> `_results` when it was ranked, and the trials to promote, best first."""
        self._results = 0
        """The number of jobs that reached their end."""
        self._telling: dict[int, tuple[int, bool]] = {}
        """Rung -> the number of complete trials, and whether they show that its values say something about the end."""
        self._front = Front(len(self._objectives))
        """Of the complete trials, without repetitions."""
        self._in_full = Counter(
            e.origin.kind for e in self._ledger.entries.values() if e.bracket == len(self._brackets)
        )
        """The number of trials that never wait at a rung, by their origin's kind."""
        self._searched_complete = 0
        self._best: float | None = None
        for entry in self._complete():
            self._count_complete(entry)
        self._check_ladders()
        self.reference = self._load_reference()
        for entry in list(self._ledger.active.values()):
            if entry.last_epoch >= entry.stop_epoch:
                # The previous driver died after the epoch and before the decision.
                self._reached(entry)

    def _check_ladders(self) -> None:
        """Raises a JournalError unless every trial has a bracket and a stop epoch of this run."""
        for entry in self._ledger.entries.values():
            in_full = entry.stop_epoch == self._epochs
            if entry.bracket >= len(self._brackets) + in_full or entry.stop_epoch > self._epochs:
                raise JournalError(
                    f"{named(self._journal.run)}: trial {entry.number} is in bracket {entry.bracket}, counted from 0, "
                    f"and stops at epoch {entry.stop_epoch}; the run has {len(self._brackets)} brackets and "
                    f"{self._epochs} epochs"
                )

    # --- what a driver calls

    def next(self) -> Job | None:
        """The next job.

        None: nothing can start now; unless `done`, call again after a `finish`. A call considers a bounded number of
        proposals, so it can return None although nothing runs; then call it again.
        """
        entry = None if self.fault else self._due()
        if entry is None:
            return None
        self._ledger.move(entry, "running")
        return Job(
            number=entry.number,
            architecture=entry.architecture,
            start_epoch=entry.last_epoch,
            stop_epoch=entry.stop_epoch,
            epochs=self._epochs,
            seed=entry.seed,
        )

    @property
    def done(self) -> bool:
        """Whether the run is complete: no job is active, and none will come."""
        if self._ledger.active or self._proposing:
            return False
        return self._to_repeat() is None

    def report(self, job: Job, record: EpochRecord) -> None:
        """Records an epoch's result. A second report of an epoch replaces the first; reports of ended trials are
        ignored. A trial fails if the metric that is an objective is missing or out of its range.
        """
        entry = self._ledger.active.get(job.number)
        if entry is None:
            return
        fault = None if self._metric is None else self._metric.fault_of(record.metrics)
        if fault is not None:
            self._fail(entry, f"epoch {record.epoch}: {fault}")
            return
        self._ledger.record(entry, record)
        self._faults.clear()
        for (rung, bracket), points in self._at_rung.items():
            if rung == record.epoch and self._compared_in(entry, bracket):
                points.update(self._points_of([entry], rung))

    def finish(self, job: Job, outcome: Outcome) -> None:
        """Records a job's end. It is ignored if the job is not running (reported twice, or lost and reassigned).

        Raises:
            ValueError: The outcome is ``reached``, but not every epoch up to the job's last was reported.
        """
        entry = self._ledger.active.get(job.number)
        if entry is None or entry.state != "running" or entry.stop_epoch != job.stop_epoch:
            return
        match outcome.kind:
            case "reached":
                if entry.last_epoch < job.stop_epoch:
                    raise ValueError(
                        f"trial {job.number} is said to have reached epoch {job.stop_epoch}, but its last reported "
                        f"epoch is {entry.last_epoch}; report every epoch before finish"
                    )
                self._reached(entry)
            case "machine" | "lost" | "node_lost":
                if outcome.kind == "machine":
                    self._count_fault(entry, outcome.reason)
                entry.losses[outcome.kind] += 1
                losses = entry.losses[outcome.kind]
                if self.fault or losses < _LOSSES_IN_A_ROW[outcome.kind]:
                    self._ledger.move(entry, "queued")
                else:
                    self._fail(entry, f"lost {losses} times in a row: {outcome.reason}", outcome.detail)
            case "failed":
                self._fail(entry, outcome.reason, outcome.detail)
            case "out_of_memory":
                if outcome.peak_bytes is not None:  # a lower bound of the need, above the estimate
                    self._costs.record(entry.architecture, "peak_memory_train", float(outcome.peak_bytes))
                self._ledger.out_of_memory(entry, outcome.reason, self._infeasible_values(entry.costs))
                self._leave_rungs(entry)

    def _count_fault(self, entry: Entry, reason: str) -> None:
        self._faults[entry.number] += 1
        if len(self._faults) >= _FAULTY_TRIALS or self._faults.total() >= _FAULTS:
            self.fault = f"the machine failed {self._faults.total()} jobs in a row: {reason}"

    def live(self) -> set[int]:
        """The trials that may still continue, so that their checkpoints must be kept."""
        return set(self._ledger.active)

    def summary(self) -> Summary:
        """Counts and figures for a display."""
        ledger = self._ledger
        states = {state: len(entries) for state, entries in ledger.by_state.items()}
        members = self._front.members
        decided = self._again == (self._changes, None)
        return Summary(
            target=self._config.target(ledger.searched, len(self._baselines_left())),
            launched=ledger.searched,
            complete=self._searched_complete,
            running=states["running"],
            waiting=states["waiting"] + states["queued"],
            stopped=states["stopped"],
            failed=states["failed"],
            rejected=dict(ledger.rejected),
            duplicates=ledger.duplicates,
            repetitions=len(ledger.repetitions) + (0 if decided else self._repetitions_left()),
            repetitions_complete=states["complete"] - self._searched_complete,
            epochs=ledger.epochs,
            best=self._best,
            front=len(members),
            hypervolume=relative_hypervolume(members, self.reference, self._objectives) if len(members) else 0.0,
            exhausted=self._exhausted,
            rejected_in_a_row=self._rejections,
            nearest=self._near_miss(),
            silent=tuple(rung for rung in below_the_end(self._brackets) if not self._tells(rung)),
        )

    def _near_miss(self) -> dict[str, tuple[float, float]]:
        if self._budget is None or self._rejections < _NEAR_MISS_AFTER:
            return {}
        limits = self._budget.limits
        return {name: (limits[name], limits[name] * (1 + excess)) for name, excess in self._nearest.items()}

    # --- what is due

    @property
    def _proposing(self) -> bool:
        if self._baselines_left():
            return True
        return self._exhausted is None and self._ledger.searched < self._config.trials

    def _baselines_left(self) -> list[str]:
        return [name for name in self._baselines if name not in self._ledger.baselines]

    def _due(self) -> Entry | None:
        by_state = self._ledger.by_state
        if queued := by_state["queued"]:
            return queued[min(queued)]
        promoted = self._promote()
        if promoted is not None:
            return promoted
        if self._proposing:
            return self._propose()
        if hopeful := self._most_promising():
            return hopeful
        if any(not entry.origin.is_finalist for entry in by_state["running"].values()):
            return None
        # No further result can promote the waiting trials.
        if waiting := by_state["waiting"]:
            self._ledger.stop([waiting[number] for number in sorted(waiting)])
            self._waiting.clear()
        return self._repeat()

    def _promote(self) -> Entry | None:
        """The best waiting trial that can be promoted, from the highest rung first."""
        for (rung, bracket), numbers in sorted(self._waiting.items(), reverse=True):
            if not numbers:
                continue
            if not self._tells(rung):
                entry = self._ledger.entries[min(numbers)]
                self._climb(entry)
                return entry
            points = self._points_at(rung, bracket)
            room = len(points) // self._config.eta - (len(points) - len(numbers))
            if room <= 0:  # as after most results
                continue
            # To rank a rung takes time that grows with its trials; among many, the ranks of a few results ago do.
            behind = len(points) // _RANKED_AGAIN_AFTER
            after, best = self._best_at.get((rung, bracket), (-math.inf, []))
            if self._results > after + behind:
                best = self._best_of(points, numbers, room + behind)
                self._best_at[rung, bracket] = (self._results, best)
            for number in best:
                if number in numbers:
                    entry = self._ledger.entries[number]
                    self._climb(entry)
                    return entry
        return None

    def _best_of(self, points: Mapping[int, Sequence[float]], waiting: AbstractSet[int], room: int) -> list[int]:
        """The trials to promote from a rung, best first: by the gain that they are expected to bring at full length."""
        self._history.update(self._study.get_trials(deepcopy=False))
        hopes = expected_gains(self._history, waiting, self._bound())
        return promotable(points, waiting, room, {} if hopes is None else hopes.gains)

    def _bound(self) -> set[int]:
        """The trials of the search that are complete or train to full length."""
        running = [entry for entry in self._ledger.by_state["running"].values() if entry.stop_epoch >= self._epochs]
        return {entry.number for entry in (*self._complete(), *running) if not entry.origin.is_finalist}

    def _most_promising(self) -> Entry | None:
        """The trial that continues when nothing is left to propose or to promote; see `most_promising`."""
        active = [entry for entry in self._ledger.active.values() if not entry.origin.is_finalist]
        left = {entry.number: self._epochs - entry.last_epoch for entry in active if entry.state == "waiting"}
        if not left:
            return None
        running = [entry for entry in active if entry.state == "running"]
        bound = self._bound()
        if running and not bound:
            return None
        self._history.update(self._study.get_trials(deepcopy=False))
        searched = [entry for entry in self._ledger.entries.values() if not entry.origin.is_finalist]
        spent = sum(entry.stop_epoch if entry.state == "running" else len(entry.epochs) for entry in searched)
        number = most_promising(self._history, left, bound, spent=spent, of_all=self._epochs * len(searched))
        if number is None:
            return None
        entry = self._ledger.entries[number]
        self._climb(entry)
        return entry

    def _reached(self, entry: Entry) -> None:
        self._results += 1
        metric = self._metric
        if metric is not None and not math.isfinite(entry.epochs[entry.stop_epoch].metrics[metric.metric]):
            self._fail(entry, f"its {metric.metric} at epoch {entry.stop_epoch} is not a number")
        elif entry.stop_epoch >= self._epochs:
            self._ledger.complete(entry, self._values(entry, self._epochs))
            if not entry.origin.is_finalist:
                self._count_complete(entry)
        elif not self._tells(entry.stop_epoch):
            self._climb(entry)
        elif self._config.stopping != "median":
            self._ledger.move(entry, "waiting")
            self._waiting.setdefault((entry.stop_epoch, entry.bracket), set()).add(entry.number)
        elif in_better_half(self._points_at(entry.stop_epoch, entry.bracket), entry.number):
            self._climb(entry)
        else:
            self._ledger.stop([entry])

    def _tells(self, rung: int) -> bool:
        """Whether the metric at a rung says something about the end, as far as the complete trials show."""
        if self._metric is None:
            return True
        count, telling = self._telling.get(rung, (0, True))
        # Once many trials are complete, one more changes nothing; a job's time must not grow with the trials.
        if self._searched_complete > count + count // _TOLD_AGAIN_AFTER:
            name = self._metric.metric
            reached = [entry for entry in self._complete() if rung in entry.epochs]
            early, ends = ([entry.epochs[at].metrics[name] for entry in reached] for at in (rung, self._epochs))
            telling = tells(early, ends)
            self._telling[rung] = (self._searched_complete, telling)
        return telling

    def _climb(self, entry: Entry) -> None:
        self._waiting.get((entry.stop_epoch, entry.bracket), set()).discard(entry.number)
        ladder = self._brackets[entry.bracket]
        # Compares epochs, because another version may have stopped the trial between the rungs.
        self._ledger.climb(entry, next(rung for rung in ladder if rung > entry.stop_epoch))

    def _points_at(self, rung: int, bracket: int) -> dict[int, list[float]]:
        """Objectives (minimised) of all trials that reached a rung: those of the bracket, and the baselines."""
        if (rung, bracket) not in self._at_rung:
            reached = [
                entry
                for entry in self._ledger.entries.values()
                if rung in entry.epochs
                and entry.state not in ("failed", "rejected")
                and self._compared_in(entry, bracket)
            ]
            self._at_rung[rung, bracket] = self._points_of(reached, rung)
        return self._at_rung[rung, bracket]

    def _points_of(self, entries: Sequence[Entry], rung: int) -> dict[int, list[float]]:
        return dict(zip((entry.number for entry in entries), self._points(entries, rung).tolist(), strict=True))

    def _compared_in(self, entry: Entry, bracket: int) -> bool:
        return entry.bracket in (bracket, len(self._brackets)) and not entry.origin.is_finalist

    def _fail(self, entry: Entry, reason: str, detail: str = "") -> None:
        self._ledger.fail(entry, reason, detail)
        self._leave_rungs(entry)

    def _leave_rungs(self, entry: Entry) -> None:
        """Others are no longer compared with a trial that failed or was rejected."""
        for points in self._at_rung.values():
            points.pop(entry.number, None)

    def _count_complete(self, entry: Entry) -> None:
        self._searched_complete += 1
        self._front.add(self._points([entry], self._epochs)[0])
        if self._metric is not None:
            self._best = max(
                [*self._told([entry]), *([] if self._best is None else [self._best])], key=self._metric.merit
            )

    # --- repetitions

    def _repeat(self) -> Entry | None:
        """Launches a network again with its next seed."""
        entry = self._to_repeat()
        if entry is None:
            return None
        with self._journal.group():
            estimates = self._estimates(entry.architecture, None)
            origin = Origin("finalist", trial=entry.number)
            known = {other.seed for other in self._ledger.entries.values() if other.fingerprint == entry.fingerprint}
            seed = next(seed for seed in count(self._config.seed + 1) if seed not in known)
            return self._launch(self._ledger.ask(), entry.architecture, origin, seed, estimates, None)

    def _to_repeat(self) -> Entry | None:
        """The trial whose network is trained next with a new seed. It is chosen again when a trial was launched or has
        ended.
        """
        if self._again is None or self._again[0] != self._changes:
            self._again = self._changes, self._surveyed() if self._survey else self._most_telling()
        return self._again[1]

    @property
    def _changes(self) -> int:
        """The number of launches and ends of trials."""
        return 2 * len(self._ledger.entries) - len(self._ledger.active)

    def _surveyed(self) -> Entry | None:
        """The first of the surveyed trials that lacks a seed, in rounds over all of them."""
        assert self._survey is not None
        networks, seeds = self._survey
        launched = Counter(entry.origin.trial for entry in self._ledger.entries.values())
        complete = self._complete()[:networks]
        return min(
            (entry for entry in complete if launched[entry.number] < seeds),
            key=lambda entry: (launched[entry.number], entry.number),
            default=None,
        )

    def _most_telling(self) -> Entry | None:
        left = self._repetitions_left()
        if self._decide is None or not left:
            return None
        running = Counter(e.origin.trial for e in self._ledger.active.values() if e.origin.trial is not None)
        number = self._decide(read_trials(self._study), left=left, running=running)
        return None if number is None else self._ledger.entries[number]

    def _repetitions_left(self) -> int:
        """How many trainings with new seeds may still be launched."""
        launched = len(self._ledger.repetitions)
        if self._survey:
            networks, seeds = self._survey
            return max(networks * seeds - launched, 0)
        if self._decide is None:
            return 0
        allowed = self._config.decide * self._ledger.searched_epochs / self._epochs
        return max(int(allowed + _ROUNDING) - launched, 0)

    # --- proposals

    def _propose(self) -> Entry | None:
        until = time.monotonic() + _PROPOSING_S
        for number in range(_PROPOSALS_PER_CALL):
            if not self._proposing or (number and time.monotonic() > until):
                return None
            with self._journal.group():
                baseline = next(iter(self._baselines_left()), None)
                entry = self._propose_new() if baseline is None else self._propose_baseline(baseline)
            if entry is not None:
                return entry
        return None

    def _propose_baseline(self, name: str) -> Entry | None:
        architecture = self._baselines[name]
        params = self._space.encode(architecture) if self._space.contains(architecture) else None
        trial, asked = self._ask(params) if params else (self._ledger.ask(), architecture)
        return self._judge(trial, asked, Origin("baseline", name))

    def _propose_new(self) -> Entry | None:
        if self._config.repeat or self._repeats < _REPEATS_BEFORE_FALLBACK:
            return self._judge(*self._ask(), SAMPLER)
        unseen = self._unseen()
        if unseen is None:
            self._exhausted = f"all {self._space.size} architectures of the space are known"
            return None
        return self._judge(*self._ask(self._space.encode(unseen)), FALLBACK)

    def _ask(self, params: Mapping[str, Value] | None = None) -> tuple[optuna.Trial, Architecture]:
        trial = self._ledger.ask(params)
        return trial, self._space.suggest(trial)

    def _judge(self, trial: optuna.Trial, architecture: Architecture, origin: Origin) -> Entry | None:
        """Launches a proposal, or records in the study why not."""
        ledger, fingerprint = self._ledger, architecture.fingerprint
        launches = ledger.launches[fingerprint]
        if fingerprint in ledger.first and (not launches or not self._config.repeat):
            self._repeats += 1
            ledger.repeat(trial, fingerprint, origin=origin)
            if not launches:
                self._count_rejection()
            return None
        verdict, estimates = self._check(architecture)
        if verdict is None or verdict.feasible:
            self._repeats = self._rejections = 0
            self._nearest = {}
            return self._launch(trial, architecture, origin, self._config.seed + launches, estimates, verdict)
        if isinstance(verdict, _NoEstimate):
            trial.set_user_attr(REASON, verdict.reason)
        elif over := {measure: excess for measure, excess in verdict.violations.items() if excess > 0}:
            self._nearest = min(self._nearest or over, over, key=lambda found: max(found.values()))
        values = self._infeasible_values({measure: estimate.value for measure, estimate in estimates.items()})
        ledger.reject(trial, architecture, origin=origin, estimates=estimates, verdict=verdict, values=values)
        if origin == FALLBACK:
            # The sampler proposes next, as it knows more than chance. If it repeats itself, random proposals return.
            self._repeats = _REPEATS_BEFORE_FALLBACK - 1
        self._count_rejection()
        return None

    def _count_rejection(self) -> None:
        self._rejections += 1
        if self._rejections >= _REJECTIONS_IN_A_ROW:
            self._exhausted = f"{self._rejections} proposals in a row were rejected"

    def _check(self, architecture: Architecture) -> tuple[BudgetVerdict | None, dict[str, Estimate]]:
        """The budget's verdict on a proposal, and its costs. If it is over budget, nothing else is measured."""
        try:
            verdict = None if self._budget is None else self._budget.check(architecture)
            return verdict, self._estimates(architecture, verdict)
        except _FAULTS_OF_THE_MACHINE:
            raise
        except Exception as error:  # operators may be foreign code; one proposal must not end the search
            return _NoEstimate(f"its costs cannot be estimated: {type(error).__name__}: {error}"), {}

    def _launch(
        self,
        trial: optuna.Trial,
        architecture: Architecture,
        origin: Origin,
        seed: int,
        estimates: Mapping[str, Estimate],
        verdict: BudgetVerdict | None,
    ) -> Entry:
        if origin.is_baseline or origin.is_finalist or self._compares():
            bracket, stop_epoch = len(self._brackets), self._epochs
        else:
            counts = [self._ledger.brackets[index] for index in range(len(self._brackets))]
            bracket = choose_bracket(counts, self._brackets, self._config.eta)
            stop_epoch = next(rung for rung in self._brackets[bracket] if rung == self._epochs or self._tells(rung))
        entry = self._ledger.launch(
            trial,
            architecture,
            origin=origin,
            seed=seed,
            bracket=bracket,
            stop_epoch=stop_epoch,
            estimates=estimates,
            verdict=verdict,
        )
        if bracket == len(self._brackets):
            self._in_full[origin.kind] += 1
        return entry

    def _compares(self) -> bool:
        """Whether the next trial is trained in full so that rungs can be compared with the end.

        Eight trials are, baselines included, but at most a sixth of `trials` besides the baselines.
        """
        if self._config.stopping == "none":
            return False
        baselines, repetitions = self._in_full["baseline"], self._in_full["finalist"]
        others = self._in_full.total() - baselines - repetitions
        return others < min(FEWEST_TO_DOUBT - baselines, self._config.trials // _SHARE_TO_COMPARE)

    def _unseen(self) -> Architecture | None:
        """An architecture that was not proposed yet: near the front, or random, or else the next in order; None if all
        were.
        """
        if self._ledger.known_in_space >= self._space.size:
            return None
        rng = random.Random(f"{self._config.seed}:{self._ledger.duplicates}")
        complete = self._complete()
        parents = [
            entry
            for entry, member in zip(complete, is_front(self._points(complete, self._epochs)), strict=True)
            if member and self._space.contains(entry.architecture)
        ]
        for attempt in range(_TRIES_AT_RANDOM):
            if parents and attempt % 2:
                candidate = self._space.mutate(rng.choice(parents).architecture, rng)
            else:
                candidate = self._space.sample(rng)
            if candidate.fingerprint not in self._ledger.first:
                return candidate
        return next((found for found in self._unexplored if found.fingerprint not in self._ledger.first), None)

    # --- figures

    def _complete(self) -> list[Entry]:
        """The trials that the search trained to full length, without repetitions."""
        complete = self._ledger.by_state["complete"]
        return [complete[number] for number in sorted(complete) if not complete[number].origin.is_finalist]

    def _told(self, complete: Sequence[Entry]) -> list[float]:
        """The final training metric of complete trials; empty if it is not an objective."""
        if self._metric is None:
            return []
        return [entry.epochs[self._epochs].metrics[self._metric.metric] for entry in complete]

    def _values(self, entry: Entry, epoch: int) -> list[float]:
        return [
            entry.epochs[epoch].metrics[objective.metric]
            if objective is self._metric
            else entry.costs[objective.metric]
            for objective in self._objectives
        ]

    def _points(self, entries: Sequence[Entry], epoch: int) -> Points:
        return minimised([self._values(entry, epoch) for entry in entries], self._directions)

    def _estimates(self, architecture: Architecture, verdict: BudgetVerdict | None) -> dict[str, Estimate]:
        estimates = dict(verdict.estimates) if verdict is not None else {}
        rejected = verdict is not None and not verdict.feasible
        for measure in (objective.metric for objective in self._objectives if objective is not self._metric):
            if measure not in estimates and not (rejected and self._costs.must_measure(architecture, measure)):
                estimates[measure] = self._costs.estimate(architecture, measure)
        return estimates

    def _known(self, architecture: Architecture) -> Known:
        """What the sampler may know about an untrained architecture. No costs if one of them cannot be estimated."""
        try:
            known = self._estimates(architecture, None)
        except _FAULTS_OF_THE_MACHINE:
            raise
        except Exception:  # if it is proposed, it is rejected with the reason
            known = {}
        return Known(
            values=tuple(
                known[objective.metric].value if objective.metric in known else None for objective in self._objectives
            ),
            seen=not self._config.repeat and architecture.fingerprint in self._ledger.first,
        )

    def _infeasible_values(self, costs: Mapping[str, float]) -> list[float] | None:
        """The values to store for an architecture over budget; None if the sampler learns from its constraints.

        NSGA-II and GP use only complete trials. For them the values are the estimated costs, or the reference's where
        there is no estimate, and a neutral value of the metric: the mean of those known, or the worst.
        """
        if not learns_from_complete_only(self._config.sampler):
            return None
        told = self._told(self._complete())
        return [
            (sum(told) / len(told) if told else objective.worst)
            if objective is self._metric
            else costs.get(objective.metric, self.reference[objective.metric])
            for objective in self._objectives
        ]

    def _load_reference(self) -> dict[str, float]:
        """The reference point of hypervolumes: the metric's worst value, and each cost's limit or twice the plain
        network's cost.

        It is stored in the journal, so that it never changes and readers need no cost model.
        """
        stored: dict[str, float] | None = self._study.user_attrs.get(_REFERENCE)
        if stored is not None:
            return stored
        limits = {} if self._budget is None else self._budget.limits
        reference = {
            objective.metric: objective.worst
            if objective is self._metric
            else limits.get(objective.metric, 2 * self._costs.estimate(self._space.plain(), objective.metric).value)
            for objective in self._objectives
        }
        with self._journal.commit():
            self._study.set_user_attr(_REFERENCE, reference)
        return reference
