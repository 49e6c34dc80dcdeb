"""What an architecture costs, how sure that is, and whether it is within budget, before anything is trained."""

from nas.costs.budget import Budget, Stage, Verdict, read_limits
from nas.costs.calibration import (
    Calibration,
    CalibrationDrift,
    CalibrationError,
    Protocol,
    calibrate,
    load_calibration,
)
from nas.costs.count import count
from nas.costs.estimate import Conditions, CostEstimate, Source
from nas.costs.measures import MEASURES, UNITS, Measure, is_counted
from nas.costs.memory import MemoryProfile
from nas.costs.model import CostModel
from nas.costs.reach import Unkept, cheapest, unkept

__all__ = [
    "MEASURES",
    "UNITS",
    "Budget",
    "Calibration",
    "CalibrationDrift",
    "CalibrationError",
    "Conditions",
    "CostEstimate",
    "CostModel",
    "Measure",
    "MemoryProfile",
    "Protocol",
    "Source",
    "Stage",
    "Unkept",
    "Verdict",
    "calibrate",
    "cheapest",
    "count",
    "is_counted",
    "load_calibration",
    "read_limits",
    "unkept",
]
