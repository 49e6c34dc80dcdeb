"""The cost measures, one row each, and how each unit is read and shown.

Estimates and measurements (`nas.costs.model`), budgets, calibrations, objectives, reports and plots all read this
table. docs/extending.md shows how to add a row.
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

    ``suffixes``: suffix of a number, in lower case -> its factor. ``spelled``: the suffixes as messages list them.
    ``example``: a limit. ``axis``: factor and name of the unit on a plot's axis.
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
    """A measure that depends only on the architecture, not on conditions. No network is built."""

    counter: str
    """``module:function`` from an `Architecture` to a number; imported when it is needed."""

    def of(self, architecture: Architecture) -> float:
        """The figure of an architecture."""
        count: Callable[[Architecture], float] = pkgutil.resolve_name(self.counter)
        return count(architecture)


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """Peak of the allocated memory in ``mode``: estimated by a pass over fake tensors, or measured by the allocator."""

    mode: Mode


@dataclass(frozen=True, slots=True)
class Time:
    """Milliseconds of one run in ``mode``: predicted from a calibration, else measured."""

    mode: Mode


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """A cost measure. Smaller is better. Figures are above 0, because a limit may be a multiple of the plain network's.

    ``label``: its name on plots, without the unit. ``ignored``: conditions that its figures do not depend on.
    """

    unit: str
    label: str
    told: Counted | PeakMemory | Time
    ignored: tuple[str, ...] = field(default=())


_BY_INFERENCE = ("train_batch_size", "optimizer", "micro_batches", "averaged")
_BY_TRAINING = ("batch_size",)

MEASURES: Mapping[Measure, MeasureRow] = MappingProxyType(
    {
        "params": MeasureRow("", "parameters", Counted("nas.costs.counting:params")),
        "macs": MeasureRow("", "multiply-adds", Counted("nas.costs.counting:macs")),
        "peak_memory_infer": MeasureRow("bytes", "peak memory of inference", PeakMemory("infer"), _BY_INFERENCE),
        "peak_memory_train": MeasureRow("bytes", "peak memory of training", PeakMemory("train"), _BY_TRAINING),
        "latency_ms": MeasureRow("ms", "latency", Time("infer"), _BY_INFERENCE),
        "train_step_ms": MeasureRow("ms", "training step", Time("train"), (*_BY_TRAINING, "averaged")),
    }
)
"""The cheapest to find come first. ``params`` counts trainable parameters, ``macs`` the multiply-adds of one image.
``peak_memory_infer`` and ``latency_ms`` are for one inference of ``batch_size`` images, ``peak_memory_train`` and
``train_step_ms`` for one optimizer step on ``train_batch_size`` images."""


def is_counted(measure: Measure) -> bool:
    """Whether a measure depends only on the architecture."""
    return isinstance(MEASURES[measure].told, Counted)


def counted(architecture: Architecture) -> dict[Measure, float]:
    """All measures that depend only on the architecture."""
    return {name: row.told.of(architecture) for name, row in MEASURES.items() if isinstance(row.told, Counted)}
