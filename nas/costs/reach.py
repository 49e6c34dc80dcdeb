"""Whether anything can keep a budget: told before a search begins."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nas.costs.budget import read_limits
from nas.costs.measures import MEASURES, Counted, Measure
from nas.costs.model import CostModel
from search_spaces import Architecture, SearchSpace

CHEAPEST = "the cheapest of the space"


@dataclass(frozen=True, slots=True)
class Unkept:
    """A limit that nothing keeps which a search begins with.

    ``limit``: in base units. ``figures``: what the plain network, the
    placements by hand and the cheapest of the space cost at least. ``relative_would_do``: a multiple was probably
    meant, for as one the same number would be kept.
    """

    measure: Measure
    limit: float
    figures: Mapping[str, float]
    relative_would_do: bool


def unkept(budget: Mapping[str, str | float], space: SearchSpace, costs: CostModel) -> Iterator[Unkept]:
    """The limits below all that is known to be cheap.

    Of a counted measure that is certain: the cheapest of the space is exact. Of memory and time, those with the fewest
    parameters and multiply-adds stand for it. Nothing but the plain network is measured unless it breaks a limit.

    Args:
        budget: limits as they are written.
        space: what is searched.
        costs: whose figures count.

    Raises:
        ValueError: as `read_limits`.
    """
    plain = space.plain()
    for measure, (number, relative) in read_limits(budget).items():
        if relative and number >= 1:
            continue  # the plain network keeps it
        base = costs.estimate(plain, measure)
        limit = number * base.value if relative else number
        if base.lower <= limit:
            continue
        figures = {name: costs.estimate(found, measure).lower for name, found in space.hand_placements().items()}
        counted = [name for name, row in MEASURES.items() if isinstance(row.told, Counted)]
        cheap = [cheapest(space, name) for name in ([measure] if measure in counted else counted)]
        figures[CHEAPEST] = min(costs.estimate(found, measure).lower for found in cheap)
        if limit < min(figures.values()):
            written = str(budget[measure])
            meant = not relative and written.replace(".", "").isdigit() and number * base.value >= min(figures.values())
            yield Unkept(measure, limit, figures, meant)


def cheapest(space: SearchSpace, measure: Measure) -> Architecture:
    """The architecture of the space with the least of a counted measure.

    Exact: what is counted adds up over places, and a space's groups are decided independently of each other.
    """
    told = MEASURES[measure].told
    assert isinstance(told, Counted), measure
    count = told.count
    return space.decided(
        lambda group: min(
            group.alternatives,
            key=lambda choice: count(
                Architecture(space.skeleton, {block: {group.slot: choice} for block in group.blocks})
            ),
        )
    )
