"""Limits on the costs of architectures, checked by the cheapest figures that decide."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from nas.costs.estimate import CostEstimate, Source
from nas.costs.limits import read_limits
from nas.costs.measures import MEASURES, Measure
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


_ORDER: tuple[Stage, ...] = ("static", "predicted", "measured")
_STAGES: Mapping[Source, Stage] = {"analytic": "static", "predicted": "predicted", "measured": "measured"}
