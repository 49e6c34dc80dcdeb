"""What an architecture costs, how sure that is, and whether it is within budget, before anything is trained."""

from nas.costs.budget import Budget, Stage, Verdict, read_limits
from nas.costs.count import count
from nas.costs.estimate import MEASURES, UNITS, Conditions, CostEstimate, Measure, Source
from nas.costs.memory import MemoryProfile
from nas.costs.model import CostModel

__all__ = [
    "MEASURES",
    "UNITS",
    "Budget",
    "Conditions",
    "CostEstimate",
    "CostModel",
    "Measure",
    "MemoryProfile",
    "Source",
    "Stage",
    "Verdict",
    "count",
    "read_limits",
]
