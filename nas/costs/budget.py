"""Limits on the costs of architectures, checked by the cheapest figures that decide."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from nas.costs.estimate import CostEstimate, Source
from nas.costs.measures import MEASURES, UNITS, Measure
from nas.costs.model import CostModel
from search_spaces import Architecture

Stage: TypeAlias = Literal["static", "predicted", "measured"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an architecture is within budget.

    Attributes:
        feasible: every limit holds, even if every figure is at the upper end of its interval.
        stage: which figures decided: ``static`` (counted, or a pass without data), ``predicted``, ``measured``.
        estimates: measure -> figure. Once a limit is exceeded, nothing more is measured, so measures that need a
            measurement may be missing.
        violations: measure -> upper bound / limit - 1; at most 0 exactly if the limit holds.
    """

    feasible: bool
    stage: Stage
    estimates: Mapping[Measure, CostEstimate]
    violations: Mapping[Measure, float]


@dataclass(frozen=True)
class Budget:
    """Limits by measure, and the cost model for the figures. Without limits every architecture is within budget."""

    limits: Mapping[Measure, float]
    costs: CostModel

    @classmethod
    def parse(cls, text: Mapping[str, str | float], *, plain: Architecture, costs: CostModel) -> "Budget":
        """Reads limits as users write them.

        Args:
            text: measure -> a number, a number with a unit (``"8 GiB"``, ``"12 ms"``, ``"25.6 M"``), or a multiple of
                the plain skeleton's own cost (``"1.25x"``).
            plain: the plain skeleton.
            costs: gives the plain skeleton's costs; it is measured if a limit is a multiple of a time.

        Raises:
            ValueError: has a line for every limit that cannot be read.
        """
        parsed = read_limits(text)
        limits: dict[Measure, float] = {}
        for measure in MEASURES:
            if measure in parsed:
                value, relative = parsed[measure]
                limits[measure] = value * costs.estimate(plain, measure).value if relative else value
        return cls(limits, costs)

    def check(self, architecture: Architecture) -> Verdict:
        """Whether an architecture is within budget, by the cheapest figures that decide.

        A limit holds if the figure's upper bound does not exceed it. It is broken if the lower bound exceeds it. In
        between, the figure is measured, unless another limit is already broken.
        """
        estimates = {
            measure: self.costs.estimate(architecture, measure)
            for measure in self.limits
            if not self.costs.must_measure(architecture, measure)
        }
        broken = [measure for measure, found in estimates.items() if found.lower > self.limits[measure]]
        if not broken:
            for measure, limit in self.limits.items():
                found = estimates[measure] = estimates.get(measure) or self.costs.estimate(architecture, measure)
                if found.lower <= limit < found.upper:
                    found = estimates[measure] = self.costs.measure(architecture, measure)
                if found.upper > limit:
                    broken.append(measure)
                    break
        decisive = broken or list(estimates)
        return Verdict(
            feasible=not broken,
            stage=max((_STAGES[estimates[measure].source] for measure in decisive), key=_ORDER.index, default="static"),
            estimates=estimates,
            violations={measure: found.upper / self.limits[measure] - 1 for measure, found in estimates.items()},
        )


def read_limits(text: Mapping[str, str | float]) -> dict[Measure, tuple[float, bool]]:
    """Limits as users write them: measure -> (figure in base units, False), or (multiple of the plain skeleton's,
    True).

    Raises:
        ValueError: has a line for every limit that cannot be read.
    """
    parsed: dict[Measure, tuple[float, bool]] = {}
    problems: list[str] = []
    for name, written in text.items():
        measure = next((known for known in MEASURES if known == name), None)
        if measure is None:
            problems.append(f"budget.{name}: not a measure; use {', '.join(MEASURES)}")
            continue
        try:
            parsed[measure] = _read(str(written), MEASURES[measure].unit)
        except ValueError as error:
            problems.append(f"budget.{name}: {error}")
    if problems:
        raise ValueError("\n".join(problems))
    return parsed


_ORDER: tuple[Stage, ...] = ("static", "predicted", "measured")
_STAGES: Mapping[Source, Stage] = {"analytic": "static", "predicted": "predicted", "measured": "measured"}


def _read(written: str, unit: str) -> tuple[float, bool]:
    """A limit, and whether it is a multiple of the plain skeleton's cost."""
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*", written)
    kind = f"a number such as {UNITS[unit].example!r}, or a multiple of the plain skeleton's such as '1.25x'"
    if found is None:
        raise ValueError(f"{written!r} is not a limit; write {kind}")
    value, suffix = float(found[1]), found[2].lower()
    if suffix != "x" and suffix not in UNITS[unit].suffixes:
        raise ValueError(
            f"{written!r} has the unit {found[2]!r}, which does not fit; use {UNITS[unit].spelled}, or write {kind}"
        )
    if not 0 < value < math.inf:
        raise ValueError(f"{written!r} must be above 0; write {kind}")
    return (value, True) if suffix == "x" else (value * UNITS[unit].suffixes[suffix], False)
