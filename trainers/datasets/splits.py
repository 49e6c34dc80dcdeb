"""Splits a validation part off the training images, every class in proportion."""

from typing import TypeVar, cast

import numpy as np

from trainers.datasets.base import DataError, Indices, Labels, Split
from trainers.datasets.config import DataConfig

_S = TypeVar("_S", bound=Split)


def carve(labels: Labels, count: int, seed: int, *, leave: int = 0) -> tuple[Indices, Indices]:
    """Takes a random `count` of the items, every class in proportion.

    As far as `count` allows, every class with more than `leave` items gives at least one, and keeps at least `leave`.

    Returns:
        Indices (left, taken), both in ascending order.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    first = np.cumsum(sizes) - sizes
    of_class = labels[by_class]
    # The i-th of n of its class gets (i + 1/2) / n: the lowest fractions are an even share of all classes.
    place = np.arange(len(labels)) - first[of_class]
    fraction = (place + 0.5) / sizes[of_class]
    stays = sizes[of_class] - place <= leave
    turn = np.where(stays, 2, np.where(place == 0, 0, 1))
    ranked = by_class[np.lexsort((fraction, turn))]
    return np.sort(ranked[count:]), np.sort(ranked[:count])


def part_size(labels: Labels, *, leave: int) -> int:
    """The number of items to carve out: a tenth, or one per class with more than `leave` items if that is more."""
    return max(len(labels) // 10, int((np.bincount(labels) > leave).sum()))


def carve_validation(config: DataConfig, full: Split) -> tuple[Split, Split]:
    """(train, val) out of all training data."""
    val_size = config.val_size or max(1, part_size(full.labels, leave=1))
    if val_size >= len(full):
        raise DataError(
            f"{config.name}: val_size ({val_size}) leaves none of the {len(full)} training images; lower val_size"
        )
    rest, val = carve(full.labels, val_size, config.seed, leave=1)
    return capped(config, full.take(rest)), full.take(val)


def capped(config: DataConfig, train: _S) -> _S:
    """At most ``config.train_size`` training images, every class in proportion."""
    if config.train_size is None:
        return train
    if config.train_size > len(train):
        raise DataError(
            f"{config.name}: train_size ({config.train_size}) is more than the {len(train)} images there are besides "
            "validation; lower it or leave it out"
        )
    return cast(_S, train.take(carve(train.labels, config.train_size, config.seed)[1]))
