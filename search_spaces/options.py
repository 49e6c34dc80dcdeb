"""What can be placed: every option, the slots it fits, its parameters with their ranges, and what they resolve to.

One row an operator, no torch. `nas.operators` holds the other half (module and cost); a test holds the two together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from search_spaces.sites import Site, Slot, Value


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of an option.

    ``default`` fixes the type. A number lies in ``[low, high]``, or in ``(low, high]`` with ``above_low``; a string is one
    of ``choices``.
    """

    default: Value
    low: float | None = None
    high: float | None = None
    above_low: bool = False
    choices: tuple[str, ...] = ()
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """An option of one or more slots.

    ``resolve(params, site)`` turns complete parameters into the integers that define the operator at that site (d_k, d_v,
    hidden channels ...). Equal resolved values mean equal networks: fingerprints are made of them. It raises ValueError,
    naming both values and the remedy, where the operator cannot stand.
    """

    name: str
    slots: frozenset[Slot]
    summary: str
    resolve: Callable[[Mapping[str, Value], Site], Mapping[str, Value]]
    params: Mapping[str, Param] = field(default_factory=dict)
