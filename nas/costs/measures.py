"""What can be told of an architecture's cost: one row a measure, and how each unit is read and shown.

Everything else reads this table: estimates and measurements (`nas.costs.model`), budgets, calibrations, what a run may
name as objective, reports and pictures. The recipe for a new row is in docs/extending.md.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

from search_spaces import Architecture

Measure: TypeAlias = str
Mode: TypeAlias = Literal["infer", "train"]


@dataclass(frozen=True, slots=True)
class Unit:
    """How figures of a unit are written.

    ``suffixes``: what may follow a number, in lower case, and its factor. ``spelled``: the same for people;
    ``example``: a limit. ``axis``: factor and name of the unit on a picture's axis.
    """

    suffixes: Mapping[str, float]
    spelled: str
    example: str
    axis: tuple[float, str]


UNITS: Mapping[str, Unit] = MappingProxyType(
    {
        "": Unit(
            {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12},
            spelled="K, M, G, T",
            example="25.6 M",
            axis=(1e6, "M"),
        ),
        "bytes": Unit(
            {
                **{"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12},
                **{"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40},
            },
            spelled="KB, MB, GB, KiB, MiB, GiB, TiB",
            example="8 GiB",
            axis=(2**20, "MiB"),
        ),
        "ms": Unit({"": 1, "ms": 1, "us": 1e-3, "s": 1e3}, spelled="us, ms, s", example="12 ms", axis=(1, "ms")),
    }
)


@dataclass(frozen=True, slots=True)
class Counted:
    """Follows from the architecture alone: no network is built, and no condition matters."""

    counter: str
    """``module:function``; takes an `Architecture`, gives a number. Imported when it is needed."""

    def of(self, architecture: Architecture) -> float:
        """The figure of an architecture."""
        count: Callable[[Architecture], float] = pkgutil.resolve_name(self.counter)
        return count(architecture)


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """The most that is allocated during ``mode``: analytic from a pass over fake tensors, measured by the allocator."""

    mode: Mode


@dataclass(frozen=True, slots=True)
class Time:
    """Milliseconds of one run of ``mode``: predicted from a calibration, else measured."""

    mode: Mode


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """A cost measure: smaller is better, and above 0, for limits may be multiples of the plain network's.

    ``label`` names it on pictures, without the unit. ``ignored``: conditions that its figures do not depend on.
    """

    unit: str
    label: str
    told: Counted | PeakMemory | Time
    ignored: tuple[str, ...] = field(default=())


_BY_INFERENCE = ("train_batch_size", "optimizer", "micro_batches")
_BY_TRAINING = ("batch_size",)

MEASURES: Mapping[Measure, MeasureRow] = MappingProxyType(
    {
        "params": MeasureRow("", "parameters", Counted("nas.costs.counting:params")),
        "macs": MeasureRow("", "multiply-adds", Counted("nas.costs.counting:macs")),
        "peak_memory_infer": MeasureRow("bytes", "peak memory of inference", PeakMemory("infer"), _BY_INFERENCE),
        "peak_memory_train": MeasureRow("bytes", "peak memory of training", PeakMemory("train"), _BY_TRAINING),
        "latency_ms": MeasureRow("ms", "latency", Time("infer"), _BY_INFERENCE),
        "train_step_ms": MeasureRow("ms", "training step", Time("train"), _BY_TRAINING),
    }
)
"""Cheapest first. ``params`` counts trainable parameters, ``macs`` the multiply-adds of one image; ``..._infer`` and
``latency_ms`` are those of ``batch_size`` images; ``..._train`` and ``train_step_ms`` those of one optimizer step on
``train_batch_size`` images."""


def is_counted(measure: Measure) -> bool:
    """Whether a measure follows from the architecture alone."""
    return isinstance(MEASURES[measure].told, Counted)


def counted(architecture: Architecture) -> dict[Measure, float]:
    """All measures that follow from the architecture alone."""
    return {name: row.told.of(architecture) for name, row in MEASURES.items() if isinstance(row.told, Counted)}
