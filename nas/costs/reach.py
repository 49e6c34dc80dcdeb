"""Checks before a search whether any architecture can keep the budget."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nas.costs.limits import read_limits
from nas.costs.measures import MEASURES, Counted, Measure
from nas.costs.model import CostModel
from search_spaces import Architecture, SearchSpace

CHEAPEST = "the cheapest of the space"


@dataclass(frozen=True, slots=True)
class Unkept:
    """A limit that neither the plain network, nor a baseline, nor the cheapest architecture keeps.

    ``limit``: in base units. ``figures``: lower bounds of the costs of these architectures. ``relative_would_do``: the
    user probably meant a multiple, because the same number as a multiple could be kept.
    """

    measure: Measure
    limit: float
    figures: Mapping[str, float]
    relative_would_do: bool


def unkept(budget: Mapping[str, str | float], space: SearchSpace, costs: CostModel) -> Iterator[Unkept]:
    """The limits that the plain network, the baselines and the cheapest architectures of the space all exceed.

    For counted measures the cheapest architecture is exact. For memory and time, the architectures with the fewest
    parameters and multiply-adds are used. Others than the plain network are measured only if it exceeds a limit.

    Args:
        budget: limits as users write them.
        space: the space of the search.
        costs: gives the figures.

    Raises:
        ValueError: see `read_limits`.
    """
    plain = space.plain()
    for measure, (number, relative) in read_limits(budget).items():
        if relative and number >= 1:
            continue  # the plain network keeps it
        base = costs.estimate(plain, measure)
        limit = number * base.value if relative else number
        if base.lower <= limit:
            continue
        figures = {name: costs.estimate(found, measure).lower for name, found in space.baselines().items()}
        counted = [name for name, row in MEASURES.items() if isinstance(row.told, Counted)]
        cheap = [cheapest(space, name) for name in ([measure] if measure in counted else counted)]
        figures[CHEAPEST] = min(costs.estimate(found, measure).lower for found in cheap)
        if limit < min(figures.values()):
            written = str(budget[measure])
            meant = not relative and written.replace(".", "").isdigit() and number * base.value >= min(figures.values())
            yield Unkept(measure, limit, figures, meant)


def cheapest(space: SearchSpace, measure: Measure) -> Architecture:
    """The architecture of the space with the lowest value of a counted measure.

    The result is exact, because counts add up over the slots and the groups of a space are independent.
    """
    told = MEASURES[measure].told
    assert isinstance(told, Counted), measure
    return space.decided(
        lambda group: min(
            group.alternatives,
            key=lambda choice: told.of(
                Architecture(space.skeleton, {block: {group.slot: choice} for block in group.blocks})
            ),
        )
    )
