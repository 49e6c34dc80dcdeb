"""Fronts, layers, spread and hypervolume of points in objective space.

Every function takes points as an array [n, m] of n points and m objectives. All objectives are minimised; `minimised`
converts others. NaN is an error: every comparison with NaN is false, so such a point would be on every front.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.search.metrics import Objective

_DIRECTIONS = 256

Points: TypeAlias = NDArray[np.float64]


class Front:
    """The Pareto front of points that are added one by one. ``members`` [k, m]: equal points are each a member."""

    def __init__(self, objectives: int) -> None:
        self.members: Points = np.empty((0, objectives))

    def add(self, point: Points) -> bool:
        """Adds a point [m]; returns whether it became a member. The time grows with the front, not with all points."""
        new = _checked(point[None])
        no_worse = (self.members <= new).all(axis=1)
        if (no_worse & (self.members < new).any(axis=1)).any():
            return False
        joined = np.vstack([self.members, new])
        self.members = joined[is_front(joined)]
        return True


def minimised(values: ArrayLike, directions: Sequence[str]) -> Points:
    """The values [n, m], with maximised objectives negated; an empty list gives [0, m]. m may be 0."""
    points = np.asarray(values, dtype=np.float64)
    points = points.reshape(len(points), len(directions))
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
    product: Points = points * signs
    return product


def layers(points: ArrayLike) -> NDArray[np.int64]:
    """The layer [n] of each point: 0 is the front, 1 is the front of the other points, and so on.

    A point dominates another that is nowhere smaller and somewhere larger. Equal points have the same layer.
    """
    array = _checked(points)
    unique, inverse = _distinct(array)
    of_unique = _layers_2d(unique) if unique.shape[1] == 2 else _layers_any(unique)
    return of_unique[inverse]


def is_front(points: ArrayLike) -> NDArray[np.bool_]:
    """Whether each point [n] is on the front, which means that no other point dominates it."""
    array = _checked(points)
    unique, inverse = _distinct(array)
    return _front_of_sorted(unique)[inverse]


def spread_order(points: ArrayLike) -> list[int]:
    """The points' indices, ordered so that for every k the first k points cover the set well (a greedy epsilon-net).

    The first point is the best in the first objective. Each next point is the farthest from those chosen, with each
    objective scaled to its range (Gonzalez, Clustering to minimize the maximum intercluster distance, 1985).
    """
    array = _checked(points)
    if not len(array):
        return []
    scaled = _scaled(array)
    chosen = [int(np.lexsort(array.T[::-1])[0])]
    distance = np.full(len(array), np.inf)
    while len(chosen) < len(array):
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[chosen[-1]], axis=1))
        distance[chosen[-1]] = -1.0
        chosen.append(int(np.argmax(distance)))
    return chosen


def ranking(points: ArrayLike) -> list[int]:
    """The points' indices, best first: by layer, and within a layer by `spread_order`.

    MO-ASHA promotes in this order: Schmucker et al., Multi-objective Asynchronous Successive Halving, 2021,
    arXiv:2106.12639, section 3.2 ("non-dominated sorting" with "EpsNet").
    """
    array = _checked(points)
    layer = layers(array)
    order: list[int] = []
    for index in range(int(layer.max(initial=-1)) + 1):
        members = np.flatnonzero(layer == index)
        order += [int(members[i]) for i in spread_order(array[members])]
    return order


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """The volume that the points dominate within the box below `reference` [m]. Points outside the box add nothing."""
    array = _checked(points)
    corner = np.asarray(reference, dtype=np.float64)
    if array.size and array.shape[1] != len(corner):
        raise ValueError(f"points have {array.shape[1]} objectives, the reference has {len(corner)}")
    inside = array[(array < corner).all(axis=1)] if array.size else np.empty((0, len(corner)))
    return _volume(_distinct(inside)[0], corner)


def hypervolume_gains(front: ArrayLike, reference: ArrayLike, candidates: ArrayLike) -> Points:
    """The hypervolume [k] that each candidate [k, m] alone would add to a front [n, m].

    Exact for one or two objectives. For more, it is an estimate up to a common factor: the volume is proportional to
    the mean over directions w of max over points of min over objectives ((reference - point) / w)^m (Zhang & Golovin,
    Random Hypervolume Scalarizations, 2020, arXiv:2006.04655, lemma 5).
    """
    corner = np.asarray(reference, dtype=np.float64)
    new = np.minimum(_checked(candidates), corner)
    known = np.asarray(front, dtype=np.float64).reshape(-1, len(corner))
    known = known[(known < corner).all(axis=1)]
    if len(corner) == 1:
        return np.asarray(np.maximum(known.min(initial=corner[0]) - new[:, 0], 0.0))
    if len(corner) == 2:
        known, _ = _distinct(known)
        known = known[_front_of_sorted(known)]
        # Strips between the front's points along the first objective, each with its height of the front.
        left = np.concatenate([[-np.inf], known[:, 0]])
        right = np.concatenate([known[:, 0], corner[:1]])
        heights = np.concatenate([corner[1:], known[:, 1]])
        widths = np.maximum(right - np.maximum(left, new[:, :1]), 0.0)
        return np.asarray((widths * np.maximum(heights - new[:, 1:], 0.0)).sum(axis=1))
    directions = np.abs(np.random.default_rng(0).normal(size=(_DIRECTIONS, len(corner))))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    reach = ((corner - new)[:, None] / directions).min(axis=2) ** len(corner)
    have = ((corner - known)[:, None] / directions).min(axis=2).max(axis=0, initial=0.0) ** len(corner)
    return np.asarray(np.maximum(reach - have, 0.0).mean(axis=1))


def knee(points: ArrayLike) -> int:
    """The index of the best compromise: the front's point with the lowest sum of objectives, scaled to its range.

    With two objectives it is the point farthest from the line through the front's ends (Das, On characterizing the
    "knee" of the Pareto curve, 1999).

    Raises:
        ValueError: There are no points.
    """
    array = _checked(points)
    if not len(array):
        raise ValueError("no points: a knee needs at least one")
    members = np.flatnonzero(is_front(array))
    return int(members[np.argmin(_scaled(array[members]).sum(axis=1))])


def _checked(points: ArrayLike) -> Points:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2:
        if array.size:
            raise ValueError(f"points must be an array [n, m], not of shape {array.shape}")
        array = array.reshape(0, 1)
    if np.isnan(array).any():
        raise ValueError(f"point {int(np.flatnonzero(np.isnan(array).any(axis=1))[0])} has a NaN")
    return array


def _distinct(points: Points) -> tuple[Points, NDArray[np.int64]]:
    """The distinct points in lexicographic order, and which of them each is, [n]; as `np.unique`, but faster."""
    order = np.lexsort(points.T[::-1])
    ordered = points[order]
    new = np.ones(len(points), np.bool_)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    which = np.empty(len(points), np.int64)
    which[order] = np.cumsum(new) - 1
    return ordered[new], which


def _scaled(array: Points) -> Points:
    low = array.min(axis=0)
    span = array.max(axis=0) - low
    scaled: Points = (array - low) / np.where(span > 0, span, 1.0)
    return scaled


def _front_of_sorted(unique: Points) -> NDArray[np.bool_]:
    """Like `is_front`, for distinct points in lexicographic order, in which no point dominates an earlier one."""
    if unique.shape[1] <= 2:
        best = np.minimum.accumulate(unique[:, -1])
        front = np.zeros(len(unique), np.bool_)
        front[:1] = True
        if unique.shape[1] == 2:
            front[1:] = unique[1:, 1] < best[:-1]
        return front
    front = np.zeros(len(unique), np.bool_)
    kept = np.empty((0, unique.shape[1]))
    for index, point in enumerate(unique):
        if not (kept <= point).all(axis=1).any():
            front[index] = True
            kept = np.vstack([kept, point])
    return front


def _layers_2d(unique: Points) -> NDArray[np.int64]:
    """Layers of points in lexicographic order, in O(n log n).

    A point belongs to the first layer in which no member is as low in the second objective.
    """
    lowest: list[float] = []
    result = np.empty(len(unique), np.int64)
    for index, value in enumerate(unique[:, 1].tolist()):
        layer = bisect_right(lowest, value)
        result[index] = layer
        if layer == len(lowest):
            lowest.append(value)
        else:
            lowest[layer] = value
    return result


def _layers_any(unique: Points) -> NDArray[np.int64]:
    result = np.full(len(unique), -1, np.int64)
    left = np.arange(len(unique))
    layer = 0
    while len(left):
        front = _front_of_sorted(unique[left])
        result[left[front]] = layer
        left = left[~front]
        layer += 1
    return result


def _volume(points: Points, corner: NDArray[Any]) -> float:
    """Hypervolume, by slices along the last objective, of distinct points inside the box in lexicographic order."""
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(corner[0] - points[0, 0])
    if points.shape[1] == 2:
        front = points[_front_of_sorted(points)]
        heights = np.concatenate([[corner[1]], front[:-1, 1]]) - front[:, 1]
        return float(((corner[0] - front[:, 0]) * heights).sum())
    order = np.argsort(points[:, -1], kind="stable")
    depth = np.append(points[order, -1], corner[-1])
    total = 0.0
    for index in range(len(points)):
        thickness = depth[index + 1] - depth[index]
        if thickness > 0:
            total += thickness * _volume(_distinct(points[order[: index + 1], :-1])[0], corner[:-1])
    return float(total)


def relative_hypervolume(points: Points, reference: Mapping[str, float], objectives: Sequence[Objective]) -> float:
    """Hypervolume of points [n, m] (minimised) as a share of the box from the ideal corner to `reference`.

    In the ideal corner the metric is at the good end of its range, and every cost is 0.
    """
    directions = [objective.direction for objective in objectives]
    corner = minimised([[reference[objective.metric] for objective in objectives]], directions)[0]
    ideal = minimised([[objective.best for objective in objectives]], directions)[0]
    return hypervolume(points, corner) / float(np.prod(corner - ideal))
