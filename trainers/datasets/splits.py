"""Parts of a data set: validation out of the training images, every class in proportion."""

import numpy as np

from trainers.datasets.base import DataError, Indices, Labels, Split
from trainers.datasets.config import DataConfig


def carve(labels: Labels, count: int, seed: int) -> tuple[Indices, Indices]:
    """Indices (left, taken) of a random `count` items taken, every class in proportion; both in ascending order."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    first = np.cumsum(sizes) - sizes
    of_class = labels[by_class]
    # The i-th of n of its class gets (i + 1/2) / n: the lowest fractions are an even share of all classes.
    fraction = (np.arange(len(labels)) - first[of_class] + 0.5) / sizes[of_class]
    ranked = by_class[np.argsort(fraction, kind="stable")]
    return np.sort(ranked[count:]), np.sort(ranked[:count])


def carve_validation(config: DataConfig, full: Split) -> tuple[Split, Split]:
    """(train, val) out of all training data."""
    val_size = config.val_size or max(1, len(full) // 10)
    if val_size >= len(full):
        raise DataError(
            f"{config.name}: val_size ({val_size}) leaves none of the {len(full)} training images; lower val_size"
        )
    rest, val = carve(full.labels, val_size, config.seed)
    return capped(config, full.take(rest)), full.take(val)


def capped(config: DataConfig, train: Split) -> Split:
    """At most ``config.train_size`` training images, every class in proportion."""
    if config.train_size is None:
        return train
    if config.train_size > len(train):
        raise DataError(
            f"{config.name}: train_size ({config.train_size}) is more than the {len(train)} images there are besides "
            "validation; lower it or leave it out"
        )
    return train.take(carve(train.labels, config.train_size, config.seed)[1])
