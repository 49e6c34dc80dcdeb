"""What a search optimises: the metric that training tells, and cost measures.

A task declares its metrics (`trainers.tasks`). One of them at most is an objective. The settings in a run's journal
describe it, so whoever reads the run needs no task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, StringConstraints, field_validator, model_validator

from nas.costs import MEASURES

Direction: TypeAlias = Literal["maximize", "minimize"]
Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][\w.:@/+-]{0,63}$")]

METRIC = "metric"
"""The key of the settings under which a journal holds its `Metric`."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How people read figures of a unit.

    ``factor``: from the metric's own unit. ``symbol``: stands behind a figure. ``difference``: stands behind a
    difference. ``decimals``: None for four significant digits.
    """

    factor: float
    symbol: str
    difference: str
    decimals: int | None


_SHOWN: Mapping[str, Shown] = MappingProxyType({"share": Shown(100.0, "%", "points", 1)})
"""By unit. Figures of any other unit are shown as they are."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What is optimised: a metric of training, or a measure of `nas.costs`.

    ``low``, ``high``: the ends of a metric's range. A cost is above 0 and has no upper end: its ``high`` is not used.
    """

    metric: str
    direction: Direction
    low: float = 0.0
    high: float = 1.0

    @property
    def best(self) -> float:
        """The best value that there can be; 0 for a cost."""
        return self.high if self.direction == "maximize" else self.low

    @property
    def worst(self) -> float:
        """The other end of a metric's range."""
        return self.low if self.direction == "maximize" else self.high

    def merit(self, value: float) -> float:
        """The value, or its negative if the objective is minimised: higher is better."""
        return value if self.direction == "maximize" else -value

    def fault_of(self, metrics: Mapping[str, float]) -> str | None:
        """What is wrong with an epoch's metrics: this one is missing or out of its range. NaN is allowed."""
        value = metrics.get(self.metric)
        if value is None:
            return f"metrics.{self.metric} is missing, and it is an objective"
        if value < self.low or value > self.high:
            return f"metrics.{self.metric} is {value}; it must lie within {self.low:g} and {self.high:g}"
        return None


class Metric(BaseModel):
    """A metric of a task, as the task declares it and a journal holds it.

    ``name``: its key among an epoch's metrics and among a run file's objectives. ``label``: its name for people.
    ``unit``: ``share`` is shown in percent; any other unit stands behind the figure. Values lie within ``low`` and
    ``high``: a hypervolume needs both ends.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    name: Name
    label: Annotated[str, StringConstraints(pattern=r"^\w[\w .:@()/+-]{0,39}$")]
    direction: Direction = "maximize"
    unit: Annotated[str, StringConstraints(pattern=r"^[\w/%]{0,16}$")] = "share"
    low: float = 0.0
    high: float = 1.0

    @field_validator("name")
    @classmethod
    def _no_measure(cls, name: str) -> str:
        if name in MEASURES:
            raise ValueError(f"{name} is a cost measure; a metric needs another name")
        return name

    @model_validator(mode="after")
    def _has_a_range(self) -> "Metric":
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g} and high is {self.high:g}; low must be smaller")
        return self

    @property
    def objective(self) -> Objective:
        """The metric as an objective."""
        return Objective(self.name, self.direction, self.low, self.high)

    @property
    def shown(self) -> Shown:
        """How people read its figures."""
        return _SHOWN.get(self.unit) or Shown(1.0, self.unit, self.unit, None)


def metric_among(names: Sequence[str]) -> int | None:
    """Where the metric that training tells stands among the objectives: the first that is no cost measure.

    None if all are costs.
    """
    return next((place for place, name in enumerate(names) if name not in MEASURES), None)


def objectives_of(
    names: Sequence[str], directions: Sequence[Direction], settings: Mapping[str, Any]
) -> tuple[Objective, ...]:
    """A journal's objectives. Older journals do not describe their metric, a share that lies within 0 and 1.

    Raises:
        ValueError: The settings describe no `Metric`.
    """
    metric = Metric.model_validate(settings[METRIC]) if METRIC in settings else None
    return tuple(
        Objective(name, direction, metric.low, metric.high)
        if metric is not None and name == metric.name
        else Objective(name, direction)
        for name, direction in zip(names, directions, strict=True)
    )
