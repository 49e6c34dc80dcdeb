"""Parses limits on costs: numbers, numbers with a unit, or multiples of the plain network's cost."""

import math
import re
from collections.abc import Mapping

from nas.costs.measures import MEASURES, UNITS, Measure


def read_limits(text: Mapping[str, str | float]) -> dict[Measure, tuple[float, bool]]:
    """Parses limits as users write them.

    Returns:
        Measure -> (number in base units, False) or (multiple of the plain skeleton's cost, True).

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
            parsed[measure] = _read(str(written).removesuffix(".0"), MEASURES[measure].unit)  # files have 0, not 0.0
        except ValueError as error:
            problems.append(f"budget.{name}: {error}")
    if problems:
        raise ValueError("\n".join(problems))
    return parsed


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
