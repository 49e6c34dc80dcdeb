"""`shapes`: pictures whose label is a relation between distant parts, drawn from a seed.

A picture of 32x32 is a grid of 4 x 4 cells. Two glyphs, one bright and one dark, one red and one blue, stand diagonally
in one quarter of the grid. The class is the hue of the glyph that a cue names:

- blocks in all seven cells of the row and the column that are farthest away: white ones name the bright glyph, black
  ones the dark one;
- a white bar in the farthest column names the glyph of its row;
- a white dot names the glyph that it is in.

Convolutions see a dot. Nothing near a glyph shows what blocks and bars name. Channel attention can broadcast whether
blocks are white or black, but not a row: that needs attention that knows positions. So each kind of attention adds what
it can, and a short training finds it with nearly every seed: two hues are soon told apart. All drawings equal their
mirror images, so a flipped picture keeps its label.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainers.datasets.base import Arrays, Dataset
from trainers.datasets.config import DataConfig
from trainers.datasets.pixels import resize, statistics

SIZE = 32
CELLS = 4
CELL = SIZE // CELLS
GLYPH = 7
GLYPHS = 2
BLOCK_CUE, BAR_CUE, DOT_CUE = range(3)
_SHARES = (0.4, 0.4, 0.2)
"""Of the cues among the pictures."""

CLASSES = ("red", "blue")
_HUES = np.array([[1, 0.15, 0.15], [0.2, 0.3, 1]])
_LEVELS = np.array([235.0, 110.0])
_WHITE, _BLACK = 250, 0
_BACKGROUND, _NOISE = 85, 12

_SIZES = (8_000, 2_000, 4_000)
"""Pictures drawn for train, val and test unless the configuration says otherwise."""


@dataclass(frozen=True, slots=True)
class Scenes:
    """The contents of N pictures, before drawing. Glyph 0 is the bright one, glyph 1 the dark one."""

    cell: npt.NDArray[np.int64]
    """[N, 2, 2] row and column of each glyph."""
    hue: npt.NDArray[np.int64]
    """[N, 2] each glyph's hue, 0 or 1; they differ."""
    shape: npt.NDArray[np.int64]
    """[N, 2] each glyph's drawing, independent of the label."""
    cue: npt.NDArray[np.int64]
    """[N] BLOCK_CUE, BAR_CUE or DOT_CUE."""
    marked: npt.NDArray[np.bool_]
    """[N, 4, 4] the cells with a block, a bar or a dot."""
    named: npt.NDArray[np.int64]
    """[N] which glyph the cue names."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """[N] the hue of the glyph that the cue names."""
        return self.hue[np.arange(len(self.named)), self.named]


def compose(count: int, rng: np.random.Generator) -> Scenes:
    """Draws `count` scenes. Class counts differ by at most one."""
    n = np.arange(count)
    half = CELLS // 2
    quarter = rng.integers(2, size=(count, 1, 2))
    place = rng.integers(2, size=(count, 1, 2))
    cell = half * quarter + np.concatenate([place, 1 - place], axis=1)  # diagonal: no shared row or column
    far = np.where(quarter[:, 0] == 0, CELLS - 1, 0)
    named = rng.integers(GLYPHS, size=count)
    own = cell[n, named]
    cue = rng.choice(len(_SHARES), size=count, p=_SHARES)
    line = np.arange(CELLS)
    marked = (line[:, None] == far[:, 0, None, None]) | (line == far[:, 1, None, None])
    bars, dots = np.flatnonzero(cue == BAR_CUE), np.flatnonzero(cue == DOT_CUE)
    marked[cue != BLOCK_CUE] = False
    marked[bars, own[bars, 0], far[bars, 1]] = True
    marked[dots, own[dots, 0], own[dots, 1]] = True
    label = rng.permutation(n % len(CLASSES))
    hue = np.where(named[:, None] == np.arange(GLYPHS), label[:, None], 1 - label[:, None])
    shape = rng.integers(len(_SHAPES), size=(count, GLYPHS))
    return Scenes(cell, hue, shape, cue, marked, named)


def draw(scenes: Scenes, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The pictures, uint8 [N, 32, 32, 3]: noise on everything, each object moved by up to a pixel."""
    count = len(scenes.named)
    noise = rng.integers(-_NOISE, _NOISE + 1, size=(count, SIZE, SIZE, 3), dtype=np.int16)
    images = (_BACKGROUND + noise).astype(np.uint8)
    for glyph in range(GLYPHS):
        colours = (_LEVELS[glyph] * _HUES[scenes.hue[:, glyph]]).astype(np.int64)
        _stamp(images, np.arange(count), _SHAPES[scenes.shape[:, glyph]], colours, scenes.cell[:, glyph], rng)
    which, *cells = np.nonzero(scenes.marked)
    black = (scenes.cue == BLOCK_CUE) & (scenes.named == 1)
    shades = np.where(black[which], _BLACK, _WHITE)[:, None].repeat(3, axis=1)
    _stamp(images, which, _CUES[scenes.cue[which]], shades, np.stack(cells, axis=1), rng)
    return images


def make(count: int, seed: int, stream: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Pictures uint8 [N, 32, 32, 3] and labels int64 [N]. Different streams of a seed have nothing in common."""
    rng = np.random.default_rng([seed, stream])
    scenes = compose(count, rng)
    return draw(scenes, rng), scenes.labels


def load(config: DataConfig) -> Dataset:
    """The pictures for `config`, drawn from its seed."""
    default_train, default_val, test_size = _SIZES
    sizes = (config.train_size or default_train, config.val_size or default_val, test_size)
    drawn = [make(size, config.seed, stream) for stream, size in enumerate(sizes)]
    train, val, test = (Arrays(resize(images, config.image_size), labels) for images, labels in drawn)
    mean, std = statistics(train.images)
    side = train.images.shape[1]
    return Dataset("shapes", train, val, test, CLASSES, side, 3, mean, std, flip=True, padding=0)


def _stamp(
    images: npt.NDArray[np.uint8],
    which: npt.NDArray[np.int64],
    masks: npt.NDArray[np.bool_],
    colours: npt.NDArray[np.int64],
    cells: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    """Paints masks [K, 7, 7] in colours [K, 3] into the cells [K, 2] of the images `which` [K], in place.

    An image may be there several times, but each time with another cell.
    """
    count = len(which)
    corner = cells * CELL + rng.integers(CELL - GLYPH + 1, size=(count, 2))
    rows = corner[:, 0, None, None] + np.arange(GLYPH)[:, None]
    columns = corner[:, 1, None, None] + np.arange(GLYPH)
    at = (which[:, None, None], rows, columns)
    painted = colours[:, None, None] + rng.integers(-_NOISE, _NOISE + 1, size=(count, GLYPH, GLYPH, 3))
    images[at] = np.where(masks[..., None], np.clip(painted, 0, 255), images[at]).astype(np.uint8)


def _parse(drawings: str) -> npt.NDArray[np.bool_]:
    rows = [line.split() for line in drawings.strip().splitlines()]
    return np.array([[[x == "X" for x in row[i]] for row in rows] for i in range(len(rows[0]))])


_SHAPES = _parse(
    """
XXXXXXX XXXXXXX ..XXX.. XX...XX
XXXXXXX XXXXXXX ..XXX.. XXX.XXX
XXXXXXX XX...XX XXXXXXX .XXXXX.
XXXXXXX XX...XX XXXXXXX ..XXX..
XXXXXXX XX...XX XXXXXXX .XXXXX.
XXXXXXX XXXXXXX ..XXX.. XXX.XXX
XXXXXXX XXXXXXX ..XXX.. XX...XX
"""
)
_CUES = _parse(
    """
XXXXXXX ....... .......
XXXXXXX ....... ...X...
XXXXXXX XXXXXXX ..XXX..
XXXXXXX XXXXXXX .XXXXX.
XXXXXXX XXXXXXX ..XXX..
XXXXXXX ....... ...X...
XXXXXXX ....... .......
"""
)
