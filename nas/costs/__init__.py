"""Costs of architectures before training: estimates with intervals, and the check against a budget."""

from typing import TYPE_CHECKING

from search_spaces.lazy import lazily

if TYPE_CHECKING:
    from nas.costs.budget import Budget, Stage, Verdict
    from nas.costs.calibration import (
        Calibration,
        CalibrationDrift,
        CalibrationError,
        Protocol,
        calibrate,
        load_calibration,
    )
    from nas.costs.counting import count
    from nas.costs.estimate import Conditions, CostEstimate, Source
    from nas.costs.limits import read_limits
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

__getattr__, __dir__ = lazily(
    __name__,
    {
        "budget": "Budget Stage Verdict",
        "calibration": "Calibration CalibrationDrift CalibrationError Protocol calibrate load_calibration",
        "counting": "count",
        "estimate": "Conditions CostEstimate Source",
        "limits": "read_limits",
        "measures": "MEASURES UNITS Measure is_counted",
        "memory": "MemoryProfile",
        "model": "CostModel",
        "reach": "Unkept cheapest unkept",
    },
)
