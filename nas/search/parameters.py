"""Maps Optuna parameters to small integers (levels), on which surrogates and mutations work.

Every parameter becomes an axis with a few levels. Choices and short integer ranges have one level per value. Long and
continuous ranges are cut into bins of equal width on their (possibly logarithmic) scale. A conditional parameter has
level `CLOSED` in trials whose condition does not hold, because these do not ask for it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import SearchSpace

CLOSED = -1

_BINS = 8


@dataclass(frozen=True, slots=True)
class Axis:
    """A parameter and its number of levels; ``binned``: whether a level is a range of values."""

    name: str
    distribution: BaseDistribution
    size: int
    binned: bool

    @classmethod
    def of(cls, name: str, distribution: BaseDistribution) -> "Axis":
        """The axis of a distribution."""
        match distribution:
            case CategoricalDistribution():
                return cls(name, distribution, len(distribution.choices), binned=False)
            case IntDistribution() | FloatDistribution(step=float()):
                assert distribution.step is not None
                count = round((distribution.high - distribution.low) / distribution.step) + 1
                if count <= 2 * _BINS:
                    return cls(name, distribution, count, binned=False)
        return cls(name, distribution, 1 if distribution.single() else _BINS, binned=True)

    def level(self, value: Any) -> int:  # noqa: ANN401  # whatever the distribution holds
        """The level of a value; a value beyond the range has the nearest level."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return int(distribution.to_internal_repr(value))
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        if self.size == 1:
            return 0
        if self.binned:
            low, high = _scaled(distribution.low, distribution), _scaled(distribution.high, distribution)
            place = int((_scaled(value, distribution) - low) / (high - low) * self.size)
        else:
            place = round((value - distribution.low) / (distribution.step or 1))
        return min(max(place, 0), self.size - 1)

    def value(self, level: int, rng: np.random.Generator) -> Any:  # noqa: ANN401  # whatever the distribution holds
        """A value of a level; in a bin, a random one."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices[level]
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        if distribution.single():
            return distribution.low
        if self.binned:
            low, high = _scaled(distribution.low, distribution), _scaled(distribution.high, distribution)
            scaled = low + (level + rng.random()) / self.size * (high - low)
            value = math.exp(scaled) if distribution.log else scaled
            step = distribution.step
            if step is not None:
                value = distribution.low + round((value - distribution.low) / step) * step
        else:
            value = distribution.low + level * (distribution.step or 1)
        value = min(max(value, distribution.low), distribution.high)
        return int(value) if isinstance(distribution, IntDistribution) else float(value)


@dataclass(frozen=True, slots=True)
class Opening:
    """The condition that opens an axis: the axis at index `parent` has one of `levels`."""

    parent: int
    levels: frozenset[int]


@dataclass(frozen=True)
class Axes:
    """All axes of a study; every axis comes after the one that opens it.

    ``openings``: axis index -> its condition. An axis without one is always open, or no rule for it was found.
    """

    axes: tuple[Axis, ...]
    openings: Mapping[int, Opening]

    @classmethod
    def of_space(cls, space: SearchSpace) -> "Axes":
        """The axes of `SearchSpace.parameters`."""
        axes = tuple(Axis.of(name, CategoricalDistribution(p.choices)) for name, p in space.parameters.items())
        index = {axis.name: i for i, axis in enumerate(axes)}
        openings = {}
        for i, parameter in enumerate(space.parameters.values()):
            if parameter.parent is not None:
                name, value = parameter.parent
                parent = index[name]
                openings[i] = Opening(parent, frozenset([axes[parent].level(value)]))
        return cls(axes, openings)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The number of levels of each axis, [d]."""
        return np.array([axis.size for axis in self.axes], dtype=np.int64)

    @cached_property
    def _opens(self) -> dict[int, NDArray[np.bool_]]:
        """Axis index -> table over the levels of its parent: whether the level opens it. The last entry is `CLOSED`."""
        tables = {}
        for index, opening in self.openings.items():
            tables[index] = np.zeros(self.axes[opening.parent].size + 1, np.bool_)
            tables[index][list(opening.levels)] = True
        return tables

    def levels(self, params: Mapping[str, Any]) -> list[int]:
        """The levels of an assignment, [d]."""
        return [axis.level(params[axis.name]) if axis.name in params else CLOSED for axis in self.axes]

    def settle(self, levels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Closes and opens the axes of candidates [n, d] as `openings` require; an opened axis gets a random level."""
        settled = levels.copy()
        drawn = (rng.random(levels.shape) * self.sizes).astype(np.int64)
        for index in range(len(self.axes)):
            opening = self.openings.get(index)
            if opening is not None:
                is_open = self._opens[index][settled[:, opening.parent]]
                settled[:, index] = np.where(is_open, settled[:, index], CLOSED)
                missing = is_open & (settled[:, index] == CLOSED)
                settled[:, index] = np.where(missing, drawn[:, index], settled[:, index])
        return settled

    def mutate(
        self, levels: NDArray[np.int64], counts: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Candidates [n, d] in which ``counts`` [n] of the open axes have another level."""
        closed = levels == CLOSED
        order = np.where(closed, np.inf, rng.random(levels.shape)).argsort(axis=1).argsort(axis=1)
        mutated = (order < counts[:, None]) & ~closed
        shift = 1 + (rng.random(levels.shape) * np.maximum(self.sizes - 1, 1)).astype(np.int64)
        return self.settle(np.where(mutated, (levels + shift) % self.sizes, levels), rng)

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Random candidates [count, d]."""
        levels = (rng.random((count, len(self.axes))) * self.sizes).astype(np.int64)
        return self.settle(levels, rng)


def learn_openings(levels: NDArray[np.int64], sizes: Sequence[int]) -> dict[int, Opening]:
    """Learns the conditions of axes from trials [n, d].

    Axis p is the parent of axis c if, in every trial, c is open exactly when p has one of certain levels. Only axes
    before c are considered, the nearest first, because a parameter is asked for after its parent.
    """
    openings: dict[int, Opening] = {}
    is_open = levels != CLOSED
    for child in np.flatnonzero(~is_open.all(axis=0)):
        for parent in range(int(child) - 1, -1, -1):
            count = sizes[parent] + 1  # the last is CLOSED
            place = np.where(levels[:, parent] == CLOSED, sizes[parent], levels[:, parent])
            tried = np.bincount(place, minlength=count)
            opened = np.bincount(place[is_open[:, child]], minlength=count)
            if opened[-1] == 0 and ((opened == 0) | (opened == tried)).all():
                openings[int(child)] = Opening(parent, frozenset(np.flatnonzero(opened).tolist()))
                break
    return openings


def _scaled(value: float, distribution: IntDistribution | FloatDistribution) -> float:
    return math.log(value) if distribution.log else float(value)
