"""Pictures of what a network's attention looks at, as matplotlib figures; nothing here runs a network."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from launch.reports.plots import GRID, INK

Picture: TypeAlias = npt.NDArray[np.uint8]
"""[side, side, 3]."""
Grid: TypeAlias = npt.NDArray[np.floating[Any]]
"""[rows, columns] over the whole picture."""

_INCHES = 2.1
"""Side of a small picture."""
_NAMED = 10
"""The most classes that get a colour and a name."""
_COLUMNS = 4


@dataclass(frozen=True)
class Gates:
    """The channels of one part of a network: mean factors over pictures, in [C], by class, and their range."""

    name: str
    by_class: Mapping[str, npt.NDArray[np.floating[Any]]]
    low: float
    high: float


@dataclass(frozen=True)
class Query:
    """Attention of one query: the weights of every head, [heads, rows, columns]; each sums to 1."""

    name: str
    pixel: tuple[int, int] | None
    """Row and column in the picture; None if all positions share the query."""
    weights: npt.NDArray[np.floating[Any]]


def attended(picture: Picture, queries: Sequence[Query], *, title: str) -> Figure:
    """A row for each query: the picture with the query's pixel, and the weights of each head over the picture."""
    heads = queries[0].weights.shape[0]
    figure, panels = _panels(len(queries), heads + 1, title)
    for row, query in zip(panels, queries, strict=True):
        row[0].imshow(picture)
        row[0].set_title(query.name, fontsize=8, color=INK)
        if query.pixel is not None:
            row[0].plot(query.pixel[1], query.pixel[0], "o", ms=9, mfc="none", mec="white", mew=2.6)
            row[0].plot(query.pixel[1], query.pixel[0], "o", ms=9, mfc="none", mec=INK, mew=1.2)
        for head, (axes, weights) in enumerate(zip(row[1:], query.weights, strict=True), 1):
            _lay(axes, picture, weights, 0.0, float(weights.max()))
            axes.set_title(f"head {head}: up to {weights.max():.1%}", fontsize=8, color=INK)
    return figure


def laid_over(picture: Picture, maps: Mapping[str, tuple[Grid, float, float]], *, first: str, title: str) -> Figure:
    """The picture, titled ``first``, and beside it one copy under each map.

    Args:
        picture: as the network gets it.
        maps: name -> values, and the values of the darkest and the brightest colour.
        first: title of the picture without a map.
        title: of the figure.
    """
    columns = min(_COLUMNS + 1, len(maps) + 1)
    figure, panels = _panels(math.ceil((len(maps) + 1) / columns), columns, title)
    places = [axes for row in panels for axes in row]
    places[0].imshow(picture)
    places[0].set_title(first, fontsize=8, color=INK)
    for axes, (name, (grid, low, high)) in zip(places[1:], maps.items(), strict=False):
        _lay(axes, picture, grid, low, high)
        axes.set_title(name, fontsize=8, color=INK)
    return figure


def by_depth(gates: Sequence[Gates], *, title: str) -> Figure:
    """Mean factor over the channels of each part, in the order of the network; a line for each class."""
    figure = Figure(figsize=(max(5.0, 1.2 + 0.55 * len(gates)), 4.4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for name, style in _styles(gates).items():
        axes.plot([gate.by_class[name].mean() for gate in gates], marker="o", ms=4, lw=1.4, label=name, **style)
    axes.set_xticks(range(len(gates)), [gate.name for gate in gates], rotation=60, ha="right", fontsize=8)
    axes.set_ylim(min(gate.low for gate in gates) - 0.03, max(gate.high for gate in gates) + 0.03)
    axes.set_ylabel("mean factor of channels")
    _finish(figure, [axes], title)
    return figure


def by_channel(gates: Sequence[Gates], *, title: str) -> Figure:
    """A panel for each part: the factor of every channel, a line for each class."""
    columns = min(_COLUMNS, len(gates))
    rows = math.ceil(len(gates) / columns)
    figure = Figure(figsize=(max(5.0, 3.4 * columns), 0.8 + 2.3 * rows), dpi=120, layout="constrained")
    panels = [figure.add_subplot(rows, columns, index + 1) for index in range(len(gates))]
    styles = _styles(gates)
    for axes, gate in zip(panels, gates, strict=True):
        for name, style in styles.items():
            axes.plot(gate.by_class[name], lw=1.0, label=name, **style)
        axes.set_ylim(gate.low - 0.03, gate.high + 0.03)
        axes.set_title(gate.name, fontsize=9, color=INK)
        axes.set_xlabel("channel", fontsize=8)
        axes.tick_params(labelsize=8)
    panels[0].set_ylabel("mean factor", fontsize=8)
    _finish(figure, panels, title)
    return figure


def _styles(gates: Sequence[Gates]) -> dict[str, dict[str, Any]]:
    """Colours of the classes; beyond `_NAMED` of them all are thin and grey."""
    names = list(gates[0].by_class)
    if len(names) > _NAMED:
        return {name: {"color": INK, "alpha": 0.2} for name in names}
    return {name: {"color": f"C{index}"} for index, name in enumerate(names)}


def _finish(figure: Figure, panels: Sequence[Axes], title: str) -> None:
    for axes in panels:
        axes.grid(color=GRID)
        axes.spines[["top", "right"]].set_visible(False)
    handles, names = panels[0].get_legend_handles_labels()
    if 1 < len(names) <= _NAMED:
        figure.legend(handles, names, loc="outside right center", fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10, color=INK)


def _panels(rows: int, columns: int, title: str) -> tuple[Figure, list[list[Axes]]]:
    size = max(4.6, _INCHES * columns), 0.5 + (_INCHES + 0.25) * rows
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels = [[figure.add_subplot(rows, columns, row * columns + column + 1) for column in range(columns)]
              for row in range(rows)]  # fmt: skip
    for axes in (axes for row in panels for axes in row):
        axes.axis("off")
    figure.suptitle(title, fontsize=10, color=INK, wrap=True)
    return figure, panels


def _lay(axes: Axes, picture: Picture, grid: Grid, low: float, high: float) -> None:
    """The picture in grey, and the map over it."""
    height, width = picture.shape[:2]
    axes.imshow(picture.mean(2), cmap="gray", vmin=0, vmax=255)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(grid, cmap="inferno", vmin=low, vmax=high, alpha=0.6, extent=extent, interpolation="nearest")
