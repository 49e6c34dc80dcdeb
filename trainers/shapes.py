"""`shapes`: pictures whose label is a relation between distant parts, drawn from a seed.

A picture of 32x32 is a grid of 4 x 4 cells. Four glyphs, each of its own colour (red, green, blue, yellow), stand so
that every row and every column holds exactly one. A cue in a fifth cell says which of them names the class:

- a coloured block names the glyph of its colour, wherever it stands;
- a white horizontal bar names the other glyph of its row;
- a white vertical bar names the glyph of its column.

So nothing near a glyph says whether it counts. Colour can be broadcast by attention over channels; row and column can
not: they need attention that knows where things are. Every glyph and both bars equal their mirror image, so that a
flipped picture keeps its label.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SIZE = 32
CELLS = 4
CELL = SIZE // CELLS
GLYPH = 7
COLOUR_CUE, ROW_CUE, COLUMN_CUE = range(3)

CLASSES = ("ladder", "frame", "plus", "saltire", "diamond", "table", "cup", "hourglass")
_DRAWINGS = """
XX...XX XXXXXXX ..XXX.. XX...XX ...X... XXXXXXX XX...XX XXXXXXX
XX...XX XXXXXXX ..XXX.. XXX.XXX ..XXX.. XXXXXXX XX...XX .XXXXX.
XX...XX XX...XX XXXXXXX .XXXXX. .XXXXX. ..XXX.. XX...XX ..XXX..
XXXXXXX XX...XX XXXXXXX ..XXX.. XXXXXXX ..XXX.. XX...XX ...X...
XX...XX XX...XX XXXXXXX .XXXXX. .XXXXX. ..XXX.. XX...XX ..XXX..
XX...XX XXXXXXX ..XXX.. XXX.XXX ..XXX.. ..XXX.. XXXXXXX .XXXXX.
XX...XX XXXXXXX ..XXX.. XX...XX ...X... ..XXX.. XXXXXXX XXXXXXX
"""
_COLOURS = np.array([[210, 60, 60], [60, 180, 70], [70, 90, 220], [215, 190, 50]])
_WHITE = np.array([235, 235, 235])


@dataclass(frozen=True, slots=True)
class Scenes:
    """What N pictures show, before any pixel is drawn. Glyph g is the one in row g of the grid."""

    column: npt.NDArray[np.int64]
    """[N, 4] the glyph's column; a permutation of 0 .. 3."""
    colour: npt.NDArray[np.int64]
    """[N, 4] the glyph's colour; a permutation of 0 .. 3."""
    drawing: npt.NDArray[np.int64]
    """[N, 4] the glyph's class; four different ones of 0 .. 7."""
    cue: npt.NDArray[np.int64]
    """[N] COLOUR_CUE, ROW_CUE or COLUMN_CUE."""
    cue_cell: npt.NDArray[np.int64]
    """[N, 2] row and column of the cue; no glyph stands there."""
    named: npt.NDArray[np.int64]
    """[N] which glyph the cue names."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """[N] the class of the glyph that the cue names."""
        return self.drawing[np.arange(len(self.named)), self.named]


def compose(count: int, rng: np.random.Generator) -> Scenes:
    """Draws `count` scenes. Classes come equally often, give or take one; half of the cues are colours."""
    n = np.arange(count)
    column = _permutations(count, CELLS, rng)
    colour = _permutations(count, CELLS, rng)
    cue = rng.choice([COLOUR_CUE, ROW_CUE, COLUMN_CUE], size=count, p=[0.5, 0.25, 0.25])
    cue_row = rng.integers(CELLS, size=count)
    # One of the three cells of that row that the row's glyph leaves free.
    cue_column = (column[n, cue_row] + rng.integers(1, CELLS, size=count)) % CELLS
    in_column = np.argmax(column == cue_column[:, None], axis=1)
    named = np.select([cue == ROW_CUE, cue == COLUMN_CUE], [cue_row, in_column], rng.integers(CELLS, size=count))
    # Four different classes, the named glyph's dealt out evenly.
    drawing = _permutations(count, len(CLASSES), rng)
    label = rng.permutation(n % len(CLASSES))
    drawing = (drawing + (label - drawing[n, named])[:, None]) % len(CLASSES)
    return Scenes(column, colour, drawing[:, :CELLS], cue, np.stack([cue_row, cue_column], axis=1), named)


def draw(scenes: Scenes, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The pictures, uint8 [N, 32, 32, 3]: noise, uneven light, and everything up to a pixel off its place."""
    count = len(scenes.named)
    backgrounds = rng.integers(20, 90, size=(count, 1, 1, 1), dtype=np.uint8)
    images = backgrounds + rng.integers(0, 30, size=(count, SIZE, SIZE, 3), dtype=np.uint8)
    for g in range(CELLS):
        place = np.stack([np.full(count, g), scenes.column[:, g]], axis=1)
        _stamp(images, _GLYPHS[scenes.drawing[:, g]], _COLOURS[scenes.colour[:, g]], place, rng)
    named_colour = _COLOURS[scenes.colour[np.arange(count), scenes.named]]
    colours = np.where((scenes.cue == COLOUR_CUE)[:, None], named_colour, _WHITE)
    _stamp(images, _CUES[scenes.cue], colours, scenes.cue_cell, rng)
    return images


def make(count: int, seed: int, stream: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Pictures uint8 [N, 32, 32, 3] and labels int64 [N]. Different streams of a seed have nothing in common."""
    rng = np.random.default_rng([seed, stream])
    scenes = compose(count, rng)
    return draw(scenes, rng), scenes.labels


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
    light = colours + rng.integers(-20, 21, size=(count, 3))
    at = (np.arange(count)[:, None, None], rows, columns)
    painted = light[:, None, None] + rng.integers(-15, 16, size=(count, GLYPH, GLYPH, 3))
    images[at] = np.where(masks[..., None], np.clip(painted, 0, 255), images[at]).astype(np.uint8)


def _permutations(count: int, length: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return rng.random((count, length)).argsort(axis=1)


def _parse(drawings: str) -> npt.NDArray[np.bool_]:
    rows = [line.split() for line in drawings.strip().splitlines()]
    return np.array([[[x == "X" for x in row[i]] for row in rows] for i in range(len(rows[0]))])


_GLYPHS = _parse(_DRAWINGS)
_CUES = _parse(
    """
....... ....... ..XXX..
.XXXXX. ....... ..XXX..
.XXXXX. XXXXXXX ..XXX..
.XXXXX. XXXXXXX ..XXX..
.XXXXX. XXXXXXX ..XXX..
.XXXXX. ....... ..XXX..
....... ....... ..XXX..
"""
)
