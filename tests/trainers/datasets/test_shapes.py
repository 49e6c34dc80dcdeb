"""The built-in pictures follow their rule, checked on the pixels by code independent of the drawing code."""

import numpy as np
import pytest

from trainers import DataConfig, load_data
from trainers.datasets import shapes


def decode(image: np.ndarray) -> int:
    """The label from the pixels: finds the coloured cells and the grey one, and applies the rule."""
    cells = image.reshape(4, 8, 4, 8, 3).swapaxes(1, 2).reshape(16, 64, 3).astype(int)
    saturation = cells.max(axis=2) - cells.min(axis=2)
    coloured = np.argsort(-(saturation > 50).sum(axis=1))[:2]
    extreme = ((cells.min(axis=2) > 200) | (cells.max(axis=2) < 25)).sum(axis=1)
    extreme[coloured] = 0
    cue = int(np.argmax(extreme))
    means = {int(c): cells[c][saturation[c] > 50].mean(axis=0) for c in coloured}
    bright = max(means, key=lambda c: means[c].max())
    dark = min(means, key=lambda c: means[c].max())
    if extreme[cue] > 40:  # a block
        named = bright if cells[cue].mean() > 128 else dark
    else:
        sharing = [c for c in means if c // 4 == cue // 4 or c % 4 == cue % 4]
        assert len(sharing) == 1, "a bar names one glyph"
        named = sharing[0]
        lit = cells[cue].reshape(8, 8, 3).min(axis=2) > 200
        horizontal = lit.any(axis=1).sum() < lit.any(axis=0).sum()
        assert horizontal == (named // 4 == cue // 4)
    hue = means[named] / means[named].max()
    ideal = np.array(
        [[1, 0.15, 0.15], [0.1, 0.8, 0.15], [0.2, 0.3, 1], [1, 0.85, 0.1], [0.9, 0.2, 0.9], [0.1, 0.85, 0.9]]
    )
    return int(np.argmin(np.linalg.norm(ideal / ideal.max(axis=1, keepdims=True) - hue, axis=1)))


def test_the_label_is_what_the_cue_names() -> None:
    images, labels = shapes.make(600, seed=3, stream=0)
    assert [decode(image) for image in images] == labels.tolist()


def test_a_mirrored_picture_keeps_its_label() -> None:
    images, labels = shapes.make(200, seed=4, stream=0)
    assert [decode(image) for image in images[:, :, ::-1]] == labels.tolist()


def test_no_picture_has_two_things_in_one_cell_and_classes_are_balanced() -> None:
    scenes = shapes.compose(3_000, np.random.default_rng(0))
    places = np.concatenate([scenes.cell, scenes.cue_cell[:, None]], axis=1)
    flat = places[..., 0] * shapes.CELLS + places[..., 1]
    assert (np.sort(flat, axis=1)[:, 1:] != np.sort(flat, axis=1)[:, :-1]).all()
    counts = np.bincount(scenes.labels, minlength=len(shapes.CLASSES))
    assert counts.max() - counts.min() <= 1
    # The brightness of the glyphs does not reveal the label.
    assert 0.45 < scenes.named.mean() < 0.55


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
