"""What the engine hands out and takes back, and how a trial reads in the journal.

A trial's user attributes are the protocol of docs/architecture.md; their names stand here and nowhere else.
"""

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

import optuna
from optuna.trial import FrozenTrial, TrialState
from pydantic import ConfigDict, Field, StringConstraints
from pydantic.dataclasses import dataclass as typed

from search_spaces import Architecture

ACCURACY = "top1"
"""The objective that only training tells: validation top-1 of the last epoch, in [0, 1]."""

Direction: TypeAlias = Literal["maximize", "minimize"]
OutcomeKind: TypeAlias = Literal["reached", "failed", "out_of_memory", "lost", "node_lost"]
Status: TypeAlias = Literal["complete", "stopped", "failed", "rejected", "duplicate", "active", "unlaunched"]

HAND = "hand:"
FINALIST = "finalist:"
SAMPLER = "sampler"
FALLBACK = "fallback"

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
BY_TRAINING = "training"
"""The stage at which an architecture is rejected that ran out of memory."""
BY_ESTIMATE = "estimate"
"""The stage at which one is rejected whose costs cannot be estimated; its reason says why."""

_EPOCH = "epoch:"
_VALIDATION, _TRAINING = "val_", "train_"
_STRICT = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)
_Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][\w.:@/+-]{0,63}$")]


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
    the most that was allocated, where the device keeps count. ``lost``: its worker died; it goes on elsewhere.
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

    ``costs``: measure -> ``{"value", "lower", "upper", "unit", "source"}``. ``budget``: ``{"feasible", "stage",
    "violations"}``, or empty without a budget. ``values``: the objectives, only of what is complete or a duplicate of
    it.
    """

    number: int
    status: Status
    ended: bool
    origin: str
    fingerprint: str
    seed: int
    bracket: int
    stop_epoch: int
    epochs: Mapping[int, EpochRecord]
    costs: Mapping[str, Mapping[str, Any]]
    budget: Mapping[str, Any]
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
        """
        if self.plan is None:
            raise ValueError(f"trial {self.number} was never launched: the journal has no architecture for it")
        return Architecture.from_dict(self.plan)

    @property
    def last_epoch(self) -> int:
        """The highest epoch up to which all are recorded."""
        last = 0
        while last + 1 in self.epochs:
            last += 1
        return last


def read_trials(study: optuna.Study, without: Container[int] = ()) -> list[TrialRecord]:
    """The trials of a run, by number; those in `without` are not even parsed."""
    return [record_of(trial) for trial in study.get_trials(deepcopy=False) if trial.number not in without]


def record_of(trial: FrozenTrial) -> TrialRecord:
    """A trial as the journal has it."""
    attrs = trial.user_attrs
    return TrialRecord(
        number=trial.number,
        status=_status(trial),
        ended=trial.state.is_finished(),
        origin=attrs.get(ORIGIN, ""),
        fingerprint=attrs.get(FINGERPRINT, ""),
        seed=attrs.get(SEED, 0),
        bracket=attrs.get(BRACKET, 0),
        stop_epoch=attrs.get(STOP_EPOCH, 0),
        epochs=epochs_of(attrs),
        costs=attrs.get(COSTS, {}),
        budget=attrs.get(BUDGET, {}),
        values=tuple(trial.values) if trial.state == TrialState.COMPLETE and REJECTED not in attrs else None,
        duplicate_of=attrs.get(DUPLICATE_OF),
        reason=attrs.get(REASON, ""),
        params=trial.params,
        plan=attrs.get(ARCHITECTURE),
    )


def epochs_of(attrs: Mapping[str, Any]) -> dict[int, EpochRecord]:
    """The epochs among a trial's user attributes."""
    found = [EpochRecord.from_dict(value) for key, value in attrs.items() if key.startswith(_EPOCH)]
    return {record.epoch: record for record in found}


def epoch_attribute(record: EpochRecord) -> tuple[str, dict[str, Any]]:
    """Name and value of the user attribute that holds an epoch."""
    return f"{_EPOCH}{record.epoch}", record.to_dict()


def _status(trial: FrozenTrial) -> Status:
    attrs = trial.user_attrs
    if DUPLICATE_OF in attrs:
        return "duplicate"
    if REJECTED in attrs:
        return "rejected"
    match trial.state:
        case TrialState.COMPLETE:
            return "complete"
        case TrialState.PRUNED:
            return "stopped"
        case TrialState.FAIL:
            return "failed"
    return "active" if ARCHITECTURE in attrs else "unlaunched"


def _mapping(data: object, what: str) -> dict[str, Any]:
    """A copy of a JSON object; a ValueError if it is none."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{what} is {data!r:.40}; it must be a JSON object")  # noqa: TRY004  # it came from a file
    return dict(data)


def _fields(value: Any) -> dict[str, Any]:  # noqa: ANN401  # a dataclass
    """A dataclass's fields as they are; `dataclasses.asdict` would copy what they hold."""
    return {one.name: getattr(value, one.name) for one in fields(value)}
