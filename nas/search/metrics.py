"""The objectives of a search: at most one metric of training, and cost measures.

A task declares its metrics (`trainers.tasks`), and at most one of them is an objective. A run's journal describes that
metric in its settings, so code that reads the run needs no task.
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
"""The key of the `Metric` in a journal's settings."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How figures of a unit are shown.

    ``factor``: applied to the stored value. ``symbol``: the unit after a figure. ``difference``: the unit after a
    difference of two figures. ``decimals``: number of decimals; None for four significant digits.
    """

    factor: float
    symbol: str
    difference: str
    decimals: int | None


_SHOWN: Mapping[str, Shown] = MappingProxyType({"share": Shown(100.0, "%", "points", 1)})
"""Unit -> its form. Figures of other units are shown unchanged."""


@dataclass(frozen=True, slots=True)
class Objective:
    """An objective of the search: a metric of training, or a measure of `nas.costs`.

    ``low``, ``high``: the range of a metric. A cost is above 0 and has no upper bound, so its ``high`` is not used.
    """

    metric: str
    direction: Direction
    low: float = 0.0
    high: float = 1.0

    @property
    def best(self) -> float:
        """The best possible value; 0 for a cost."""
        return self.high if self.direction == "maximize" else self.low

    @property
    def worst(self) -> float:
        """The worst possible value of a metric."""
        return self.low if self.direction == "maximize" else self.high

    def merit(self, value: float) -> float:
        """The value, or its negative if the objective is minimised: higher is better."""
        return value if self.direction == "maximize" else -value

    def fault_of(self, metrics: Mapping[str, float]) -> str | None:
        """A message if an epoch's metrics lack this one, or if its value is out of range; else None. NaN is allowed."""
        value = metrics.get(self.metric)
        if value is None:
            return f"metrics.{self.metric} is missing, but it is an objective"
        if value < self.low or value > self.high:
            return f"metrics.{self.metric} is {value}; it must be between {self.low:g} and {self.high:g}"
        return None


class Metric(BaseModel):
    """A metric of a task, as declared by the task and stored in a journal.

    ``name``: its key in an epoch's metrics and in a run file's objectives. ``label``: its name in reports. ``unit``:
    ``share`` is shown in percent; any other unit is shown after the figure. Values are between ``low`` and ``high``,
    because a hypervolume needs both bounds.
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
        """How its figures are shown."""
        return _SHOWN.get(self.unit) or Shown(1.0, self.unit, self.unit, None)


def metric_among(names: Sequence[str]) -> int | None:
    """The index of the metric of training among the objectives: the first that is not a cost measure.

    None if all are costs.
    """
    return next((place for place, name in enumerate(names) if name not in MEASURES), None)


def objectives_of(
    names: Sequence[str], directions: Sequence[Direction], settings: Mapping[str, Any]
) -> tuple[Objective, ...]:
    """A journal's objectives. Older journals do not describe their metric; it is a share between 0 and 1.

    Raises:
        ValueError: The settings have a ``metric`` that is not a `Metric`.
    """
    metric = Metric.model_validate(settings[METRIC]) if METRIC in settings else None
    return tuple(
        Objective(name, direction, metric.low, metric.high)
        if metric is not None and name == metric.name
        else Objective(name, direction)
        for name, direction in zip(names, directions, strict=True)
    )
