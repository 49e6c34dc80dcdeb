"""What the engine hands out and takes back, and how a trial reads in the journal.

A trial's user attributes are the protocol of docs/architecture.md; their names stand here and nowhere else.
"""

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
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
from search_spaces import Architecture, SearchSpace, options

if TYPE_CHECKING:
    import optuna

ACCURACY = "top1"
"""The objective that only training tells: validation top-1 of the last epoch, in [0, 1]."""

Direction: TypeAlias = Literal["maximize", "minimize"]
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
"""The stage at which an architecture is rejected that ran out of memory."""
BY_ESTIMATE: Literal["estimate"] = "estimate"
"""The stage at which one is rejected whose costs cannot be estimated; its reason says why."""


def _known_measure(name: str) -> str:
    if name not in MEASURES:
        raise ValueError(f"{name!r:.60} is no measure; there are {', '.join(MEASURES)}")
    return name


_EPOCH = "epoch:"
_VALIDATION, _TRAINING = "val_", "train_"
_STRICT = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)
_STRICT_MODEL = ConfigDict(frozen=True, strict=True, extra="forbid")
_Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][\w.:@/+-]{0,63}$")]
_Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
_Known: TypeAlias = Annotated[str, AfterValidator(_known_measure)]
_BASELINE, _FINALIST = "hand:", "finalist:"
_ORIGIN = re.compile(rf"{_BASELINE}(?P<baseline>[\w.-]+)|{_FINALIST}(?P<trial>\d{{1,9}})|sampler|fallback|", re.ASCII)


class State(IntEnum):
    """A trial's state by Optuna's numbers. Optuna's `TrialState` has the same, and takes long to import."""

    RUNNING = 0
    COMPLETE = 1
    PRUNED = 2
    FAIL = 3
    WAITING = 4


class RecordError(JournalError):
    """A trial of which the journal says what no driver writes. The message names the trial and the field."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Why a trial is there.

    ``baseline``: a placement that is always tried, `name`; ``sampler``: it was proposed; ``fallback``: proposed by
    chance, for the sampler repeated itself; ``finalist``: another seed of `trial`; ``unknown``: the journal does not
    say, as of trials that others added.
    """

    kind: OriginKind
    name: str = ""
    trial: int | None = None

    @classmethod
    def parse(cls, stored: object) -> "Origin":
        """What the journal holds.

        Raises:
            ValueError: No driver writes that.
        """
        found = _ORIGIN.fullmatch(stored) if isinstance(stored, str) else None
        if found is None:
            raise ValueError(f"{stored!r:.60} is no origin of a trial")
        if found["baseline"] is not None:
            return cls("baseline", name=found["baseline"])
        if found["trial"] is not None:
            return cls("finalist", trial=int(found["trial"]))
        kind: Any = found[0] or "unknown"
        return cls(kind)

    @property
    def stored(self) -> str:
        """As the journal holds it; ``hand:se`` is what it says of a baseline since its first version."""
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
        """Whether it is a placement that is always tried."""
        return self.kind == "baseline"

    @property
    def is_finalist(self) -> bool:
        """Whether it repeats a member of the front with another seed."""
        return self.kind == "finalist"

    def __str__(self) -> str:
        """As people read it."""
        return {"baseline": f"baseline {self.name}", "finalist": f"finalist of {self.trial}"}.get(self.kind, self.kind)


SAMPLER, FALLBACK = Origin("sampler"), Origin("fallback")


class Figure(BaseModel):
    """A cost with what is known of its error, as the journal holds a `nas.costs.CostEstimate`."""

    model_config = _STRICT_MODEL

    value: _Finite
    lower: _Finite
    upper: _Finite
    unit: Annotated[str, StringConstraints(pattern=r"^[\w/%]{0,16}$")]
    source: Source


class Judgement(BaseModel):
    """What the budget said of an architecture. ``violations``: measure -> upper bound / limit - 1."""

    model_config = _STRICT_MODEL

    feasible: bool
    stage: Stage
    violations: dict[_Name, float]


class _Attributes(BaseModel):
    """A trial's user attributes, epochs aside; others may add their own."""

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


@dataclass(frozen=True, slots=True)
class Objective:
    """What is optimised: `ACCURACY`, or a measure of `nas.costs`."""

    metric: str
    direction: Direction


@typed(frozen=True, slots=True, config=_STRICT)
class Job:
    """Training that is due: from `start_epoch`'s checkpoint (0: from scratch) to the end of `stop_epoch`.

    `epochs` is the full length, which a schedule of the learning rate needs to know. A checkpoint may lie ahead of
    `start_epoch`, when the driver died before it heard of an epoch: the worker then reports what the checkpoint knows
    instead of training again.
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
    """What one epoch gave.

    ``epoch`` counts from 1. ``metrics``: by name, on validation data as they are (``top1`` in [0, 1], ``loss``), on
    training data with ``train_`` in front; NaN where a figure is not finite. ``lr``: of the last step; ``seconds``:
    with evaluation. ``worker`` is the process that trained it and ``node`` the host that it ran on; ``ended`` is that
    host's clock when the epoch was over, in seconds since 1970. None in a record that says nothing of it.
    """

    epoch: Annotated[int, Field(ge=1)]
    metrics: dict[_Name, float]
    lr: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    worker: int | None = None
    node: str | None = None
    ended: Annotated[float, Field(allow_inf_nan=False)] | None = None

    def __post_init__(self) -> None:
        top1 = self.metrics.get(ACCURACY, 0.0)
        if not (0 <= top1 <= 1 or math.isnan(top1)):
            raise ValueError(f"metrics.{ACCURACY} is {top1}; it must lie within 0 and 1")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "EpochRecord":
        """What `to_dict` returned, or what older versions wrote (``val_top1``, ``val_loss``, ``train_loss`` as fields).

        Raises:
            ValueError: A field is missing, of another type or unknown.
        """
        data = _mapping(data, "an epoch")
        if "metrics" not in data:
            names = [name for name in data if name.startswith((_VALIDATION, _TRAINING))]
            data["metrics"] = {name.removeprefix(_VALIDATION): data.pop(name) for name in names}
        if isinstance(data["metrics"], dict):
            data["metrics"] = {n: math.nan if value is None else value for n, value in data["metrics"].items()}
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: a figure that is not finite is None."""
        finite = {name: value if math.isfinite(value) else None for name, value in self.metrics.items()}
        return {**_fields(self), "metrics": finite}


@typed(frozen=True, slots=True, config=_STRICT)
class Outcome:
    """How a job ended.

    ``reached``: its stop epoch, with a checkpoint. ``failed``: it can never be trained (diverged, cannot be built).
    ``out_of_memory``: over the memory budget, as it turned out; ``peak_bytes`` is
    the most that was allocated, where the device keeps count. ``machine``: the machine failed, whatever it trained (its
    disk is full, its data gone); the job is given out again. ``lost``: its worker died; it goes on elsewhere.
    ``node_lost``: so did the node, which a trial is seldom to blame for.
    """

    kind: OutcomeKind
    reason: str = ""
    detail: str = ""
    peak_bytes: Annotated[int, Field(ge=0)] | None = None


@typed(frozen=True, slots=True, config=_STRICT)
class JobReport:
    """What a worker tells the driver at once: an epoch's record, the job's end, or both."""

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


@dataclass(frozen=True)
class TrialRecord:
    """One trial of the journal.

    ``status``: ``complete`` (trained to full length), ``stopped`` (early, by a rung), ``failed``, ``rejected`` (over
    budget, never trained, or out of memory), ``duplicate`` (of `duplicate_of`; its values are that trial's), ``active``
    (launched and not ended: it runs, waits at a rung, or its driver died) or ``unlaunched``.

    ``plan`` is the architecture as `Architecture.to_dict` has it, None if it was never launched; ``ended``: the study
    was told.

    ``costs``: by measure. ``budget``: what it said, None without one; ``rejected_by``: the stage that found it over
    the budget, if it was. ``values``: the objectives, only of what is complete or a duplicate of it.
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
        """Of a trial that was launched.

        Raises:
            ValueError: It was not.
            RecordError: What the journal holds is no architecture.
        """
        if self.plan is None:
            raise ValueError(f"trial {self.number} was never launched: the journal has no architecture for it")
        with _of(self.number, ARCHITECTURE):
            return Architecture.from_dict(self.plan)

    @property
    def accuracy(self) -> float | None:
        """Of the last epoch; None before the first."""
        last = self.last_epoch
        return self.epochs[last].metrics[ACCURACY] if last else None

    @property
    def last_epoch(self) -> int:
        """The highest epoch up to which all are recorded."""
        last = 0
        while last + 1 in self.epochs:
            last += 1
        return last


class StoredTrial(Protocol):
    """A trial as the journal's lines leave it; `optuna.trial.FrozenTrial`, or what `nas.search.reading` makes."""

    @property
    def number(self) -> int:
        """0 for the first."""

    @property
    def state(self) -> int:
        """A `State`, or Optuna's own."""

    @property
    def values(self) -> Sequence[float] | None:
        """One value an objective, None before the end."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameter -> value, as proposed."""

    @property
    def user_attrs(self) -> Mapping[str, Any]:
        """All that this program knows of the trial, as JSON."""


def ended(state: int) -> bool:
    """Whether nothing more can be said of a trial in this state."""
    return state not in (State.RUNNING, State.WAITING)


def accuracy_among(metrics: Sequence[str]) -> int | None:
    """Where accuracy stands among the objectives; None if it is none of them."""
    return metrics.index(ACCURACY) if ACCURACY in metrics else None


def read_trials(study: "optuna.Study", without: Container[int] = ()) -> list[TrialRecord]:
    """The trials of a study that a driver has open, by number; those in `without` are not even parsed.

    Raises:
        RecordError: The first trial of which the journal says what no driver writes.
    """
    metrics = study.metric_names or [""] * len(study.directions)
    return [record_of(trial, metrics) for trial in study.get_trials(deepcopy=False) if trial.number not in without]


def record_of(trial: StoredTrial, metrics: Sequence[str]) -> TrialRecord:
    """A trial as the journal has it, checked.

    Args:
        trial: Any of the study, of others too.
        metrics: The names of the objectives.

    Raises:
        RecordError: It says what no driver writes; the first such field.
    """
    with _of(trial.number):
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
    with _of(trial.number):
        _check(record, metrics)
    return record


def epochs_of(trial: StoredTrial) -> dict[int, EpochRecord]:
    """The epochs among a trial's user attributes.

    Raises:
        RecordError: One says what no driver writes.
    """
    found = {}
    for name, value in trial.user_attrs.items():
        if name.startswith(_EPOCH):
            with _of(trial.number, name):
                record = EpochRecord.from_dict(value)
                if name != f"{_EPOCH}{record.epoch}":
                    raise ValueError(f"its epoch is {record.epoch}")
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
    # A trial that others added may be complete, and is none of the search.
    return "active" if launched and not ended(state) else "unlaunched"


def _check(trial: TrialRecord, metrics: Sequence[str]) -> None:
    """Raises a ValueError unless a trial's fields agree with each other."""
    if trial.duplicate_of is not None and trial.duplicate_of >= trial.number:
        raise ValueError(f"{DUPLICATE_OF}: it is said to repeat trial {trial.duplicate_of}, which came later")
    if trial.origin.trial is not None and trial.origin.trial >= trial.number:
        raise ValueError(f"{ORIGIN}: it is said to repeat trial {trial.origin.trial}, which came later")
    if trial.plan is not None and not trial.stop_epoch:
        raise ValueError(f"{STOP_EPOCH}: it is missing")
    if (trial.plan is not None or trial.status == "rejected") and not trial.fingerprint:
        raise ValueError(f"{FINGERPRINT}: it is missing")
    if trial.last_epoch != len(trial.epochs):
        raise ValueError(f"{_EPOCH}{trial.last_epoch + 1}: it is missing, and later ones are there")
    if trial.epochs and trial.last_epoch > trial.stop_epoch:
        raise ValueError(f"{STOP_EPOCH} is {trial.stop_epoch}, and epoch {trial.last_epoch} is there")
    if trial.status in ("complete", "stopped") and trial.last_epoch < trial.stop_epoch:
        raise ValueError(f"{_EPOCH}{trial.last_epoch + 1}: it is missing, and the trial is {trial.status}")
    if trial.status == "complete" and trial.values is None:
        raise ValueError("values: they are missing, and the trial is complete")
    if trial.values is not None and not (len(trial.values) == len(metrics) and all(map(math.isfinite, trial.values))):
        raise ValueError(f"values are {list(trial.values)}; there must be a finite one for each of {list(metrics)}")
    if trial.plan is not None:
        missing = [metric for metric in metrics if metric in MEASURES and metric not in trial.costs]
        if missing:
            raise ValueError(f"{COSTS}.{missing[0]}: it is missing, and it is an objective")
        if ACCURACY in metrics and any(ACCURACY not in record.metrics for record in trial.epochs.values()):
            raise ValueError(f"{ACCURACY} is missing from an epoch, and it is an objective")


def check_plans(trials: Iterable[TrialRecord], space: SearchSpace) -> None:
    """Checks launched trials' architectures against the space: the skeleton, and the names of places and options.

    The rest is checked when one is built (`TrialRecord.architecture`), which takes a hundred times as long.

    Raises:
        RecordError: Something has another name, or the skeleton is another; the first such trial.
    """
    skeleton = space.plain().to_dict()["skeleton"]
    blocks, known = {block.name: block for block in space.blocks}, options()
    for trial in trials:
        if trial.plan is None:
            continue
        with _of(trial.number, ARCHITECTURE):
            if trial.plan["skeleton"] != skeleton:
                raise ValueError(f"its skeleton is {trial.plan['skeleton']!r:.80}, not that of the space")
            for block, slots in trial.plan["placements"].items():
                for slot, choice in slots.items():
                    [(option, _)] = choice.items()
                    if block not in blocks or slot not in blocks[block].sites or option not in known:
                        raise ValueError(f"placements: there is no {block}.{slot}: {option!r:.40} in the space")


@contextmanager
def _of(number: int, name: str = "") -> Iterator[None]:
    """Says of which trial, and which field, something is wrong.

    Raises:
        RecordError: what else was raised.
    """
    try:
        yield
    except RecordError:
        raise
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in (*filter(None, [name]), *first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise RecordError(f"trial {number}: {place}{': ' if place else ''}{message}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # What an architecture raises that is none has no form of its own.
        raise RecordError(f"trial {number}: {name}{': ' if name else ''}{error}") from None


def _mapping(data: object, what: str) -> dict[str, Any]:
    """A copy of a JSON object; a ValueError if it is none."""
    match data:
        case Mapping():
            return dict(data)
        case _:
            raise ValueError(f"{what} is {data!r:.40}; it must be a JSON object")


def _fields(value: Any) -> dict[str, Any]:  # noqa: ANN401  # a dataclass
    """A dataclass's fields as they are; `dataclasses.asdict` would copy what they hold."""
    return {one.name: getattr(value, one.name) for one in fields(value)}
