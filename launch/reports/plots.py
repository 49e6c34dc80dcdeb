"""Pictures of a run, as matplotlib figures; nothing here reads a journal."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from nas.search.metrics import Direction

INK, MUTED, GRID = "#1f2933", "#9aa5b1", "#e4e7eb"
FRONT, BASELINE, LIMIT = "#0b6e4f", "#d1495b", "#edae49"


@dataclass(frozen=True)
class Point:
    """A trial in the picture: its cost (x), its metric (y), and its name if it is a baseline."""

    x: float
    y: float
    on_front: bool = False
    baseline: str = ""
    complete: bool = True


@dataclass(frozen=True)
class Repeated:
    """A network in the picture: the values of its seeds, their mean, its interval, and a note beside it."""

    name: str
    values: Sequence[float]
    mean: float
    low: float
    high: float
    note: str


def front(
    points: Sequence[Point],
    *,
    x_label: str,
    y_label: str,
    direction: Direction = "maximize",
    limit: float | None = None,
    title: str = "",
) -> Figure:
    """Every trial, the Pareto front as a staircase, the baselines by name, the budget as a line.

    The trials that were trained in full set the y range. A trial that was stopped and is worse than all of it is drawn
    at its edge: the lower one if the metric is maximised, else the upper one.
    """
    figure = Figure(figsize=(7.2, 4.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    _bare(axes)
    sign, edge, marker = (1.0, "below", "v") if direction == "maximize" else (-1.0, "above", "^")
    heights = [sign * p.y for p in points if p.complete]
    floor = min(heights) - 0.2 * max(np.ptp(heights), 1e-3 * max(map(abs, heights))) if heights else -np.inf
    stopped = [p for p in points if not p.complete and sign * p.y >= floor]
    beyond = [p.x for p in points if not p.complete and sign * p.y < floor]
    searched = [p for p in points if p.complete and not p.on_front and not p.baseline]
    if stopped:
        axes.scatter([p.x for p in stopped], [p.y for p in stopped], s=14, c=GRID, edgecolors=MUTED, linewidths=0.5,
                     label="stopped early (last value)")  # fmt: skip
    if beyond:
        axes.scatter(beyond, [sign * floor] * len(beyond), s=14, marker=marker, c=GRID, edgecolors=MUTED,
                     linewidths=0.5, label=f"stopped early, {edge}")  # fmt: skip
    axes.scatter([p.x for p in searched], [p.y for p in searched], s=22, c=MUTED, label="trained in full")
    members = sorted((p for p in points if p.on_front), key=lambda p: p.x)
    if members:
        axes.step([p.x for p in members], [p.y for p in members], where="post", c=FRONT, lw=1.2, alpha=0.6)
        axes.scatter([p.x for p in members], [p.y for p in members], s=40, c=FRONT, label="Pareto front", zorder=3)
    baselines = [p for p in points if p.baseline and p.complete]
    axes.scatter([p.x for p in baselines], [p.y for p in baselines], s=60, marker="D", facecolors="none",
                 edgecolors=BASELINE, linewidths=1.4, label="baseline", zorder=4)  # fmt: skip
    if limit is not None:
        axes.axvline(limit, c=LIMIT, lw=1.4, ls="--", label="budget")
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    _label(axes, baselines)
    if points:
        axes.legend(frameon=False, fontsize=8, loc="best")
    return figure


def standings(rows: Sequence[Repeated], *, label: str) -> Figure:
    """One line per network, the first on top: every seed as a tick, the mean as a dot within its interval."""
    figure = Figure(figsize=(7.2, 1.1 + 0.36 * len(rows)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    _bare(axes)
    for place, row in enumerate(rows):
        axes.plot([row.low, row.high], [place, place], c=FRONT, lw=1.6, alpha=0.6, solid_capstyle="butt")
        axes.plot(row.values, [place] * len(row.values), "|", c=INK, ms=9)
        axes.plot([row.mean], [place], "o", c=FRONT, ms=7)
        axes.text(1.02, place, row.note, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=8)
    axes.set(xlabel=label, ylim=(len(rows) - 0.4, -0.6))
    return figure


def progress(hypervolume: Sequence[float], front_size: Sequence[int]) -> Figure:
    """Hypervolume and size of the front after each finished trial."""
    figure = Figure(figsize=(7.2, 3.0), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    _bare(axes)
    x = np.arange(1, len(hypervolume) + 1)
    axes.step(x, hypervolume, where="post", c=FRONT, lw=1.8)
    axes.set(xlabel="finished trials", ylabel="hypervolume")
    axes.yaxis.label.set_color(FRONT)
    right = axes.twinx()
    right.step(x, front_size, where="post", c=MUTED, lw=1.2)
    right.set_ylabel("members of the front", color=MUTED)
    right.spines[:].set_visible(False)
    right.tick_params(colors=MUTED, labelsize=8)
    return figure


def effects(table: Mapping[str, Mapping[str, float]], *, unit: str, decimals: int | None = 1) -> Figure:
    """Where which attention pays: mean gain over the empty choice, one row per option and one column per place.

    Args:
        table: option -> place -> gain; a pair that was never tried is absent.
        unit: The unit of the gain.
        decimals: Of the gains; None for three significant digits.
    """
    options = list(table)
    places = list(dict.fromkeys(place for row in table.values() for place in row))
    values = np.array([[table[o].get(p, np.nan) for p in places] for o in options]).reshape(len(options), len(places))
    figure = Figure(
        figsize=(1.8 + 0.9 * max(len(places), 1), 1.3 + 0.5 * max(len(options), 1)), dpi=120, layout="constrained"
    )
    axes = figure.add_subplot()
    number = "+.3g" if decimals is None else f"+.{decimals}f"
    reach = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    image = axes.imshow(values, cmap="PRGn", vmin=-reach, vmax=reach, aspect="auto")
    axes.set_xticks(range(len(places)), places, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(options)), options, fontsize=8)
    axes.spines[:].set_visible(False)
    for i, j in np.ndindex(values.shape):
        if np.isfinite(values[i, j]):
            strong = abs(values[i, j]) > 0.6 * reach
            axes.text(
                j,
                i,
                format(values[i, j], number),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if strong else INK,
            )
    bar = figure.colorbar(image, shrink=0.8)
    bar.set_label(unit, fontsize=8)
    bar.outline.set_visible(False)
    return figure


def pixels(figure: Figure) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The figure as [H, W, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    out = io.BytesIO()
    Image.fromarray(pixels(figure)).save(out, "PNG", optimize=True)
    return out.getvalue()


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(c=GRID, lw=0.6)
    axes.set_axisbelow(True)


def _label(axes: Axes, points: Sequence[Point]) -> None:
    """Writes names to the right of their points, near the right edge to the left, and moves overlapping names up.

    Must be called last, when the axes' limits are final.
    """
    taken: list[tuple[float, float]] = []
    axes.autoscale_view()
    axes.autoscale(enable=False)
    for p in sorted(points, key=lambda p: p.y):
        x, y = axes.transAxes.inverted().transform(axes.transData.transform((p.x, p.y)))
        left = x > 0.85
        x += -0.018 if left else 0.018
        while any(abs(x - u) < 0.1 and abs(y - v) < 0.045 for u, v in taken):
            y += 0.01
        taken.append((x, y))
        axes.text(
            x,
            y,
            p.baseline,
            transform=axes.transAxes,
            fontsize=8,
            color=BASELINE,
            va="center",
            ha="right" if left else "left",
        )
