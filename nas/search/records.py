"""The jobs and reports that engine and driver exchange, and the form of trials in the journal.

A trial's user attributes are the protocol of docs/architecture.md. Their names are defined only here.
"""

import math
import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic.dataclasses import dataclass as typed

from nas.costs import MEASURES
from nas.search.lines import JournalError
from nas.search.metrics import Direction, Name, Objective, metric_among, objectives_of
from nas.search.names import SETTINGS
from search_spaces import Architecture, SearchSpace, options

if TYPE_CHECKING:
    import optuna

OutcomeKind: TypeAlias = Literal["reached", "failed", "out_of_memory", "machine", "lost", "node_lost"]
OriginKind: TypeAlias = Literal["baseline", "sampler", "fallback", "finalist", "unknown"]
Stage: TypeAlias = Literal["static", "predicted", "measured", "training", "estimate"]
Source: TypeAlias = Literal["analytic", "predicted", "measured"]
Status: TypeAlias = Literal["complete", "stopped", "failed", "rejected", "duplicate", "active", "unlaunched"]

ARCHITECTURE = "architecture"
BRACKET = "bracket"
BUDGET = "budget"
COSTS = "costs"
DETAIL = "detail"
DUPLICATE_OF = "duplicate_of"
FINGERPRINT = "fingerprint"
ORIGIN = "origin"
REASON = "reason"
REJECTED = "rejected"
SEED = "seed"
STOP_EPOCH = "stop_epoch"
BY_TRAINING: Literal["training"] = "training"
"""The stage of rejection of an architecture that ran out of memory."""
BY_ESTIMATE: Literal["estimate"] = "estimate"
"""The stage of rejection of an architecture whose costs cannot be estimated; `REASON` says why."""


def _known_measure(name: str) -> str:
    if name not in MEASURES:
        raise ValueError(f"{name!r:.60} is not a measure; the measures are {', '.join(MEASURES)}")
    return name


_EPOCH = "epoch:"
_VALIDATION, _TRAINING = "val_", "train_"
_STRICT = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)
_STRICT_MODEL = ConfigDict(frozen=True, strict=True, extra="forbid")
_Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
_Known: TypeAlias = Annotated[str, AfterValidator(_known_measure)]
_BASELINE, _FINALIST = "hand:", "finalist:"
_ORIGIN = re.compile(rf"{_BASELINE}(?P<baseline>[\w.-]+)|{_FINALIST}(?P<trial>\d{{1,9}})|sampler|fallback|", re.ASCII)


class State(IntEnum):
    """A trial's state, with the numbers of Optuna's `TrialState`, which takes long to import."""

    RUNNING = 0
    COMPLETE = 1
    PRUNED = 2
    FAIL = 3
    WAITING = 4


_OPEN = (int(State.RUNNING), int(State.WAITING))  # numbers, because enums compare slowly, for every line of a journal

_WRONG = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Errors that a wrong record raises; a value that is not an architecture can raise any of them."""


class RecordError(JournalError):
    """The journal has a value for a trial that no driver writes. The message names the trial and the field."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a trial comes from.

    ``baseline``: the baseline `name`, which is always trained. ``sampler``: the sampler proposed it. ``fallback``: a
    random proposal, because the sampler repeated itself. ``finalist``: a repetition of `trial` with another seed.
    ``unknown``: the journal does not say; other programs can add such trials.
    """

    kind: OriginKind
    name: str = ""
    trial: int | None = None

    @classmethod
    def parse(cls, stored: object) -> "Origin":
        """The origin from the journal's form (see `stored`).

        Raises:
            ValueError: No driver writes this value.
        """
        found = _ORIGIN.fullmatch(stored) if isinstance(stored, str) else None
        if found is None:
            raise ValueError(f"{stored!r:.60} is not an origin of a trial")
        if found["baseline"] is not None:
            return cls("baseline", name=found["baseline"])
        if found["trial"] is not None:
            return cls("finalist", trial=int(found["trial"]))
        kind: Any = found[0] or "unknown"
        return cls(kind)

    @property
    def stored(self) -> str:
        """The journal's form; a baseline is ``hand:se``, as in the format's first version."""
        match self.kind:
            case "baseline":
                return f"{_BASELINE}{self.name}"
            case "finalist":
                return f"{_FINALIST}{self.trial}"
            case "unknown":
                return ""
        return self.kind

    @property
    def is_baseline(self) -> bool:
        """Whether the trial is a baseline."""
        return self.kind == "baseline"

    @property
    def is_finalist(self) -> bool:
        """Whether the trial repeats a finalist with another seed."""
        return self.kind == "finalist"

    def __str__(self) -> str:
        """The form in reports."""
        return {"baseline": f"baseline {self.name}", "finalist": f"finalist of {self.trial}"}.get(self.kind, self.kind)


SAMPLER, FALLBACK = Origin("sampler"), Origin("fallback")


class Figure(BaseModel):
    """A cost with its bounds: the journal's form of `nas.costs.CostEstimate`."""

    model_config = _STRICT_MODEL

    value: _Finite
    lower: _Finite
    upper: _Finite
    unit: Annotated[str, StringConstraints(pattern=r"^[\w/%]{0,16}$")]
    source: Source


class Judgement(BaseModel):
    """The budget's verdict on an architecture. ``violations``: measure -> upper bound / limit - 1."""

    model_config = _STRICT_MODEL

    feasible: bool
    stage: Stage
    violations: dict[Name, float]


class _Attributes(BaseModel):
    """A trial's user attributes except epochs; other programs may add their own."""

    model_config = ConfigDict(strict=True, extra="ignore", arbitrary_types_allowed=True)

    architecture: dict[str, Any] | None = None
    fingerprint: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{0,64}$")] = ""
    origin: Annotated[Origin, BeforeValidator(Origin.parse)] = Origin("unknown")
    costs: dict[_Known, Figure] = {}
    budget: Judgement | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    bracket: Annotated[int, Field(ge=0)] = 0
    stop_epoch: Annotated[int, Field(ge=1)] | None = None
    rejected: Stage | None = None
    duplicate_of: Annotated[int, Field(ge=0)] | None = None
    reason: str = ""
    detail: str = ""


@typed(frozen=True, slots=True, config=_STRICT)
class Job:
    """A part of a trial's training: from the checkpoint of `start_epoch` (0: from scratch) to the end of `stop_epoch`.

    `epochs` is the full length, for the schedule of the learning rate. A checkpoint may be ahead of `start_epoch`, if
    the driver died before an epoch's report arrived. Then the worker reports the checkpoint's epochs instead of
    training them again.
    """

    number: Annotated[int, Field(ge=0)]
    architecture: Architecture
    start_epoch: Annotated[int, Field(ge=0)]
    stop_epoch: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Job":
        """What `to_dict` returned.

        Raises:
            ValueError: A field is missing, of another type or unknown, or the architecture cannot be read.
        """
        data = _mapping(data, "a job")
        return cls(**{**data, "architecture": Architecture.from_dict(data.get("architecture", {}))})

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; the architecture by its own `to_dict`."""
        return {**_fields(self), "architecture": self.architecture.to_dict()}


@typed(frozen=True, slots=True, config=_STRICT)
class EpochRecord:
    """The results of one epoch.

    ``epoch`` counts from 1. ``metrics``: by name, on validation data (``top1`` in [0, 1], ``loss``), and on training
    data with the prefix ``train_``; NaN for values that are not finite. ``lr``: of the last step. ``seconds``: with
    evaluation. ``worker``: the process that trained it; ``node``: its host; ``ended``: the host's clock at the end, in
    seconds since 1970. These three are None if unknown.
    """

    epoch: Annotated[int, Field(ge=1)]
    metrics: dict[Name, float]
    lr: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    worker: int | None = None
    node: str | None = None
    ended: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "EpochRecord":
        """Reads the result of `to_dict`, or the older form (``val_top1``, ``val_loss``, ``train_loss`` as fields).

        Raises:
            ValueError: A field is missing, of another type or unknown.
        """
        if not isinstance(data, dict) or "metrics" not in data:
            data = _mapping(data, "an epoch")
            names = [name for name in data if name.startswith((_VALIDATION, _TRAINING))]
            data.setdefault("metrics", {name.removeprefix(_VALIDATION): data.pop(name) for name in names})
        metrics = data["metrics"]
        if isinstance(metrics, dict) and None in metrics.values():
            data = {**data, "metrics": {n: math.nan if value is None else value for n, value in metrics.items()}}
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; None for a figure that is not finite."""
        finite = {name: value if math.isfinite(value) else None for name, value in self.metrics.items()}
        return {**_fields(self), "metrics": finite}


@typed(frozen=True, slots=True, config=_STRICT)
class Outcome:
    """How a job ended.

    ``reached``: it reached its stop epoch, with a checkpoint. ``failed``: the trial cannot be trained (it diverged, or
    cannot be built). ``out_of_memory``: memory was too small; ``peak_bytes``: peak of the allocated memory, if the
    device records it. ``machine``: the machine failed independently of the trial (full disk, missing data); the job is
    queued again. ``lost``: its worker died; the job continues elsewhere. ``node_lost``: like ``lost``, but the node
    died, which a trial rarely causes.
    """

    kind: OutcomeKind
    reason: str = ""
    detail: str = ""
    peak_bytes: Annotated[int, Field(ge=0)] | None = None


@typed(frozen=True, slots=True, config=_STRICT)
class JobReport:
    """A message from a worker to the driver: an epoch's record, the job's end, or both."""

    record: EpochRecord | None = None
    outcome: Outcome | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "JobReport":
        """What `to_dict` returned.

        Raises:
            ValueError: A field is missing, of another type or unknown.
        """
        data = _mapping(data, "a report")
        record, outcome = data.get("record"), data.get("outcome")
        return cls(
            **{
                **data,
                "record": None if record is None else EpochRecord.from_dict(record),
                "outcome": None if outcome is None else Outcome(**_mapping(outcome, "an outcome")),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "record": None if self.record is None else self.record.to_dict(),
            "outcome": None if self.outcome is None else _fields(self.outcome),
        }


def last_without_gap(epochs: Collection[int]) -> int:
    """The last of the epochs 1, 2, ... before the first that is missing; 0 if there is none.

    Args:
        epochs: Each once; looking one up must be fast.
    """
    count = len(epochs)
    if max(epochs, default=0) == count:  # as in every journal: none is missing
        return count
    last = 0
    while last + 1 in epochs:
        last += 1
    return last


@dataclass(frozen=True)
class TrialRecord:
    """One trial of the journal.

    ``status``: ``complete`` (trained to full length), ``stopped`` (early, at a rung), ``failed``, ``rejected`` (over
    budget and not trained, or out of memory), ``duplicate`` (of `duplicate_of`, with its values), ``active`` (launched,
    but not ended: it runs, waits at a rung, or its driver died) or ``unlaunched``.

    ``plan``: the architecture as in `Architecture.to_dict`; None if it was never launched. ``ended``: whether Optuna's
    study has the trial's end. ``costs``: by measure. ``budget``: the budget's verdict; None without a budget.
    ``rejected_by``: the stage that rejected it, or None. ``values``: the objectives of a complete trial or of a
    duplicate of one, else None.
    """

    number: int
    status: Status
    ended: bool
    origin: Origin
    fingerprint: str
    seed: int
    bracket: int
    stop_epoch: int
    epochs: Mapping[int, EpochRecord]
    costs: Mapping[str, Figure]
    budget: Judgement | None
    rejected_by: Stage | None
    values: tuple[float, ...] | None
    duplicate_of: int | None
    reason: str
    params: Mapping[str, Any]
    plan: Mapping[str, Any] | None = field(repr=False)

    @cached_property
    def architecture(self) -> Architecture:
        """The architecture of a launched trial.

        Raises:
            ValueError: The trial was never launched.
            RecordError: The journal's value is not an architecture.
        """
        if self.plan is None:
            raise ValueError(f"trial {self.number} was never launched: the journal has no architecture for it")
        with _of(self.number, ARCHITECTURE):
            return Architecture.from_dict(self.plan)

    def latest(self, metric: str) -> float | None:
        """A metric of the last epoch; None before the first, or if it was not reported."""
        last = self.last_epoch
        return self.epochs[last].metrics.get(metric) if last else None

    @property
    def last_epoch(self) -> int:
        """The last epoch of the recorded epochs without a gap; 0 if there is none."""
        return last_without_gap(self.epochs)


class StoredTrial(Protocol):
    """A trial in the journal: `optuna.trial.FrozenTrial`, or the trial of `nas.search.reading`."""

    @property
    def number(self) -> int:
        """Counted from 0."""

    @property
    def state(self) -> int:
        """A `State` or Optuna's `TrialState`."""

    @property
    def values(self) -> Sequence[float] | None:
        """One value per objective; None before the end."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameter -> value, as proposed."""

    @property
    def user_attrs(self) -> Mapping[str, Any]:
        """The attributes of this program and of others, as JSON values."""


def ended(state: int) -> bool:
    """Whether a trial in this state has ended, and so cannot change."""
    return state not in _OPEN


def read_trials(study: "optuna.Study", without: Container[int] = ()) -> list[TrialRecord]:
    """The trials of a driver's study, by number; those in `without` are left out and not parsed.

    Raises:
        RecordError: A trial has a value that no driver writes; for the first such trial.
    """
    objectives = objectives_in(study)
    return [record_of(trial, objectives) for trial in study.get_trials(deepcopy=False) if trial.number not in without]


def objectives_in(study: "optuna.Study") -> tuple[Objective, ...]:
    """The objectives of a study; those of a study without names are called ``""``."""
    names = study.metric_names or [""] * len(study.directions)
    directions: list[Direction] = ["maximize" if one.name == "MAXIMIZE" else "minimize" for one in study.directions]
    return objectives_of(names, directions, study.user_attrs.get(SETTINGS, {}))


def record_of(trial: StoredTrial, objectives: Sequence[Objective]) -> TrialRecord:
    """Checks and converts a trial of the journal.

    Args:
        trial: Any trial of the study, also one from another program.
        objectives: Of the study.

    Raises:
        RecordError: The trial has a value that no driver writes; for the first such field.
    """
    # `_of` would take as long as the checks, for thousands of trials and even more epochs.
    try:
        attrs = _Attributes.model_validate(trial.user_attrs)
        record = TrialRecord(
            number=trial.number,
            status=_status(trial.state, attrs),
            ended=ended(trial.state),
            origin=attrs.origin,
            fingerprint=attrs.fingerprint,
            seed=attrs.seed,
            bracket=attrs.bracket,
            stop_epoch=attrs.stop_epoch or 0,
            epochs=epochs_of(trial),
            costs=attrs.costs,
            budget=attrs.budget,
            rejected_by=attrs.rejected,
            values=tuple(trial.values) if trial.values and attrs.rejected is None else None,
            duplicate_of=attrs.duplicate_of,
            reason=attrs.reason,
            params=trial.params,
            plan=attrs.architecture,
        )
        _check(record, objectives)
    except _WRONG as error:
        raise _named(error, trial.number) from None
    return record


def epochs_of(trial: StoredTrial) -> dict[int, EpochRecord]:
    """The epochs among a trial's user attributes.

    Raises:
        RecordError: An epoch has a value that no driver writes.
    """
    found = {}
    for name, value in trial.user_attrs.items():
        if name.startswith(_EPOCH):
            try:
                record = EpochRecord.from_dict(value)
                if name != f"{_EPOCH}{record.epoch}":
                    raise ValueError(f"its epoch is {record.epoch}")
            except _WRONG as error:
                raise _named(error, trial.number, name) from None
            found[record.epoch] = record
    return found


def epoch_attribute(record: EpochRecord) -> tuple[str, dict[str, Any]]:
    """Name and value of the user attribute that holds an epoch."""
    return f"{_EPOCH}{record.epoch}", record.to_dict()


def _status(state: int, attrs: _Attributes) -> Status:
    launched = attrs.architecture is not None
    if attrs.duplicate_of is not None:
        return "duplicate"
    if attrs.rejected is not None:
        return "rejected"
    match state:
        case State.COMPLETE if launched:
            return "complete"
        case State.PRUNED if launched:
            return "stopped"
        case State.FAIL:
            return "failed"
    # A trial from another program may be complete, but is not a trial of the search.
    return "active" if launched and not ended(state) else "unlaunched"


def _check(trial: TrialRecord, objectives: Sequence[Objective]) -> None:
    """Raises a ValueError unless a trial's fields agree with each other."""
    metrics = [objective.metric for objective in objectives]
    last = trial.last_epoch
    if trial.duplicate_of is not None and trial.duplicate_of >= trial.number:
        raise ValueError(f"{DUPLICATE_OF}: it names trial {trial.duplicate_of}, which is not an earlier trial")
    if trial.origin.trial is not None and trial.origin.trial >= trial.number:
        raise ValueError(f"{ORIGIN}: it names trial {trial.origin.trial}, which is not an earlier trial")
    if trial.plan is not None and not trial.stop_epoch:
        raise ValueError(f"{STOP_EPOCH}: it is missing")
    if (trial.plan is not None or trial.status == "rejected") and not trial.fingerprint:
        raise ValueError(f"{FINGERPRINT}: it is missing")
    if last != len(trial.epochs):
        raise ValueError(f"{_EPOCH}{last + 1}: it is missing, but later epochs exist")
    if trial.epochs and last > trial.stop_epoch:
        raise ValueError(f"{STOP_EPOCH} is {trial.stop_epoch}, but epoch {last} exists")
    if trial.status in ("complete", "stopped") and last < trial.stop_epoch:
        raise ValueError(f"{_EPOCH}{last + 1}: it is missing, but the trial is {trial.status}")
    if trial.status == "complete" and trial.values is None:
        raise ValueError("values: they are missing, but the trial is complete")
    if trial.values is not None and not (len(trial.values) == len(metrics) and all(map(math.isfinite, trial.values))):
        raise ValueError(f"values are {list(trial.values)}; each of {metrics} needs a finite value")
    if trial.plan is not None:
        missing = [metric for metric in metrics if metric in MEASURES and metric not in trial.costs]
        if missing:
            raise ValueError(f"{COSTS}.{missing[0]}: it is missing, but it is an objective")
    place = metric_among(metrics)
    if place is not None and metrics[place]:
        for record in trial.epochs.values():
            if fault := objectives[place].fault_of(record.metrics):
                raise ValueError(f"{_EPOCH}{record.epoch}: {fault}")


def check_plans(trials: Iterable[TrialRecord], space: SearchSpace) -> None:
    """Checks launched trials' architectures against the space: skeleton, and names of blocks, slots and options.

    The rest is checked when an architecture is built (`TrialRecord.architecture`), which takes a hundred times as long.

    Raises:
        RecordError: The skeleton differs, or a name does not exist; for the first such trial.
    """
    skeleton = space.plain().to_dict()["skeleton"]
    usable = options()
    known = {(block.name, slot): usable for block in space.blocks for slot in block.sites}
    for trial in trials:
        if trial.plan is None:
            continue
        try:
            if trial.plan["skeleton"] != skeleton:
                raise ValueError(f"its skeleton is {trial.plan['skeleton']!r:.80}, which is not the space's")
            for block, slots in trial.plan["placements"].items():
                for slot, choice in slots.items():
                    [(option, _)] = choice.items()
                    if option not in known.get((block, slot), ()):
                        raise ValueError(f"placements: the space has no {block}.{slot}: {option!r:.40}")
        except _WRONG as error:  # as `_of`, which would take a fifth of the time
            raise _named(error, trial.number, ARCHITECTURE) from None


@contextmanager
def _of(number: int, name: str = "") -> Iterator[None]:
    """Converts errors in the block to a `RecordError` that names the trial and the field."""
    try:
        yield
    except _WRONG as error:
        raise _named(error, number, name) from None


def _named(error: Exception, number: int, name: str = "") -> RecordError:
    """The error as a `RecordError` that names the trial and the field."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(str(part) for part in (*filter(None, [name]), *first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
    else:
        what = str(error)
    return RecordError(f"trial {number}: {name}{': ' if name else ''}{what}")


def _mapping(data: object, what: str) -> dict[str, Any]:
    """A copy of a JSON object; a ValueError if the data is not one."""
    match data:
        case dict() | Mapping():  # in this order, because checking for dict takes a tenth of the time
            return dict(data)
        case _:
            raise ValueError(f"{what} is {data!r:.40}; it must be a JSON object")


def _fields(value: Any) -> dict[str, Any]:  # noqa: ANN401  # a dataclass
    """A dataclass's fields by name; unlike `dataclasses.asdict`, it does not copy their values."""
    return {one.name: getattr(value, one.name) for one in fields(value)}
