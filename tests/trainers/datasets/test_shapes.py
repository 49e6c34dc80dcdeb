"""The built-in pictures follow their rule, checked on the pixels by code independent of the drawing code."""

import numpy as np
import pytest

from trainers import DataConfig, load_data
from trainers.datasets import shapes


def decode(image: np.ndarray) -> int:
    """The label from the pixels: finds the coloured cells and the grey ones, and applies the rule."""
    cells = image.reshape(4, 8, 4, 8, 3).swapaxes(1, 2).reshape(16, 64, 3).astype(int)
    saturation = cells.max(axis=2) - cells.min(axis=2)
    coloured = np.flatnonzero((saturation > 50).sum(axis=1) > 8)
    assert len(coloured) == 2
    means = {int(c): cells[c][saturation[c] > 50].mean(axis=0) for c in coloured}
    bright, dark = sorted(means, key=lambda c: -means[c].max())
    white, black = (cells.min(axis=2) > 200).sum(axis=1), (cells.max(axis=2) < 25).sum(axis=1)
    marked = np.flatnonzero(white + black > 10)
    if len(marked) == 7:  # blocks
        assert (black[marked] == 49).all() or (white[marked] == 49).all(), "all blocks name the same glyph"
        named = bright if white[marked].any() else dark
    elif marked[0] in means:
        named = int(marked[0])
    else:
        (named,) = (c for c in means if c // 4 == marked[0] // 4)
    far = [mark for mark in marked if mark not in means]
    assert all(max(abs(c // 4 - m // 4), abs(c % 4 - m % 4)) > 1 for c in means for m in far), "a cue is far or inside"
    return int(means[named][2] > means[named][0])


def test_the_label_is_what_the_cue_names() -> None:
    images, labels = shapes.make(600, seed=3, stream=0)
    assert [decode(image) for image in images] == labels.tolist()


def test_a_mirrored_picture_keeps_its_label() -> None:
    images, labels = shapes.make(200, seed=4, stream=0)
    assert [decode(image) for image in images[:, :, ::-1]] == labels.tolist()


def test_glyphs_are_independent_of_the_class_and_classes_are_balanced() -> None:
    scenes = shapes.compose(3_000, np.random.default_rng(0))
    counts = np.bincount(scenes.labels, minlength=len(shapes.CLASSES))
    assert counts.max() - counts.min() <= 1
    # Neither the glyphs' brightness, nor their places, nor the kind of cue reveals the label.
    for known in (scenes.named, scenes.cell[:, 0, 0], scenes.cell[:, 0, 1], scenes.cue):
        for value in np.unique(known):
            assert 0.44 < scenes.labels[known == value].mean() < 0.56


def test_the_same_seed_draws_the_same_and_splits_share_nothing() -> None:
    one, again = (load_data(DataConfig(train_size=100, val_size=50)) for _ in range(2))
    assert np.array_equal(one.train.images, again.train.images)
    assert np.array_equal(one.test.images, again.test.images)
    splits = [{image.tobytes() for image in split.images} for split in (one.train, one.val, one.test)]
    assert len(splits[0] | splits[1] | splits[2]) == sum(map(len, splits))
    other = load_data(DataConfig(train_size=100, val_size=50, seed=1))
    assert not np.array_equal(one.train.images, other.train.images)


@pytest.mark.parametrize("side", [16, 64])
def test_pictures_come_in_other_sizes(side: int) -> None:
    data = load_data(DataConfig(train_size=12, val_size=6, image_size=side))
    assert data.train.images.shape == (12, side, side, 3)
