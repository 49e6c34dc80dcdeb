"""`shapes`: pictures whose label is a relation between distant parts, drawn from a seed.

A picture of 32x32 is a grid of 4 x 4 cells. Two glyphs, one bright and one dark, each of its own hue, stand in
different rows and columns. The class is the hue of the glyph that a cue in a third cell names:

- a white block names the bright glyph, a black block the dark one, wherever they stand;
- a white horizontal bar names the glyph of its row;
- a white vertical bar names the glyph of its column.

So nothing near a glyph shows whether it counts. Channel attention can broadcast whether a block is white or black, but
not a row or a column: they need attention that knows positions. All drawings equal their mirror images, so a flipped
picture keeps its label.
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
BLOCK_CUE, ROW_CUE, COLUMN_CUE = range(3)

CLASSES = ("red", "green", "blue", "yellow", "purple", "cyan")
_HUES = np.array([[1, 0.15, 0.15], [0.1, 0.8, 0.15], [0.2, 0.3, 1], [1, 0.85, 0.1], [0.9, 0.2, 0.9], [0.1, 0.85, 0.9]])
_LEVELS = np.array([235.0, 100.0])
_WHITE, _BLACK = 250, 0

_SIZES = (8_000, 2_000, 4_000)
"""Pictures drawn for train, val and test unless the configuration says otherwise."""


@dataclass(frozen=True, slots=True)
class Scenes:
    """The contents of N pictures, before drawing. Glyph 0 is the bright one, glyph 1 the dark one."""

    cell: npt.NDArray[np.int64]
    """[N, 2, 2] row and column of each glyph; they differ in both."""
    hue: npt.NDArray[np.int64]
    """[N, 2] each glyph's hue, two different ones of 0 .. 5."""
    shape: npt.NDArray[np.int64]
    """[N, 2] each glyph's drawing, independent of the label."""
    cue: npt.NDArray[np.int64]
    """[N] BLOCK_CUE, ROW_CUE or COLUMN_CUE."""
    cue_cell: npt.NDArray[np.int64]
    """[N, 2] row and column of the cue; no glyph is there."""
    named: npt.NDArray[np.int64]
    """[N] which glyph the cue names."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """[N] the hue of the glyph that the cue names."""
        return self.hue[np.arange(len(self.named)), self.named]


def compose(count: int, rng: np.random.Generator) -> Scenes:
    """Draws `count` scenes. Class counts differ by at most one; about half of the cues are blocks."""
    n = np.arange(count)
    rows, columns = _permutations(count, CELLS, rng), _permutations(count, CELLS, rng)
    cell = np.stack([rows[:, :GLYPHS], columns[:, :GLYPHS]], axis=2)
    named = rng.integers(GLYPHS, size=count)
    cue = rng.choice([BLOCK_CUE, ROW_CUE, COLUMN_CUE], size=count, p=[0.5, 0.25, 0.25])
    # A bar shares the row or the column of its glyph, and nothing with the other glyph: these two lines are free.
    free_row, free_column = rows[:, GLYPHS], columns[:, GLYPHS]
    own = cell[n, named]
    cue_row = np.where(cue == ROW_CUE, own[:, 0], free_row)
    cue_column = np.where(cue == COLUMN_CUE, own[:, 1], free_column)
    # Two different hues; the named glyph's are evenly distributed.
    label = rng.permutation(n % len(CLASSES))
    other = (label + rng.integers(1, len(CLASSES), size=count)) % len(CLASSES)
    hue = np.where(named[:, None] == np.arange(GLYPHS), label[:, None], other[:, None])
    shape = rng.integers(len(_SHAPES), size=(count, GLYPHS))
    return Scenes(cell, hue, shape, cue, np.stack([cue_row, cue_column], axis=1), named)


def draw(scenes: Scenes, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The pictures, uint8 [N, 32, 32, 3]: noisy background, uneven light, each object moved by up to a pixel."""
    count = len(scenes.named)
    backgrounds = rng.integers(50, 60, size=(count, 1, 1, 1), dtype=np.uint8)
    images = backgrounds + rng.integers(0, 20, size=(count, SIZE, SIZE, 3), dtype=np.uint8)
    for glyph in range(GLYPHS):
        colours = (_LEVELS[glyph] * _HUES[scenes.hue[:, glyph]]).astype(np.int64)
        _stamp(images, _SHAPES[scenes.shape[:, glyph]], colours, scenes.cell[:, glyph], rng)
    black = (scenes.cue == BLOCK_CUE) & (scenes.named == 1)
    shades = np.where(black, _BLACK, _WHITE)[:, None].repeat(3, axis=1)
    _stamp(images, _CUES[scenes.cue], shades, scenes.cue_cell, rng)
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
    masks: npt.NDArray[np.bool_],
    colours: npt.NDArray[np.int64],
    cells: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    """Paints one mask [N, 7, 7] in one colour [N, 3] into a cell [N, 2] of each image, in place."""
    count = len(images)
    corner = cells * CELL + rng.integers(CELL - GLYPH + 1, size=(count, 2))
    rows = corner[:, 0, None, None] + np.arange(GLYPH)[:, None]
    columns = corner[:, 1, None, None] + np.arange(GLYPH)
    light = colours + rng.integers(-8, 9, size=(count, 3))
    at = (np.arange(count)[:, None, None], rows, columns)
    painted = light[:, None, None] + rng.integers(-10, 11, size=(count, GLYPH, GLYPH, 3))
    images[at] = np.where(masks[..., None], np.clip(painted, 0, 255), images[at]).astype(np.uint8)


def _permutations(count: int, length: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return rng.random((count, length)).argsort(axis=1)


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
XXXXXXX ....... ..XXX..
XXXXXXX ....... ..XXX..
XXXXXXX XXXXXXX ..XXX..
XXXXXXX XXXXXXX ..XXX..
XXXXXXX XXXXXXX ..XXX..
XXXXXXX ....... ..XXX..
XXXXXXX ....... ..XXX..
"""
)
