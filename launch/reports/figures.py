"""Interactive pictures of a run, as plotly's JSON: each function makes one figure of data from `drawn`.

Colours are those of Okabe and Ito (Color Universal Design, 2008), which the colour-blind tell apart, and each option
has a symbol of its own besides. Colours of text, axes and background are the page's (`page.js`), for light and dark.
"""

import html
import itertools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

from launch.reports import drawn
from launch.reports.comparison import Comparison, gap_text, verdict
from launch.reports.drawn import PLAIN, Curve, Dot, Grown, PlacementMap, Refused, scaled
from launch.reports.facts import Facts
from launch.reports.prose import LABELS
from launch.reports.tables import measure_amount, metric_figure
from nas.analysis import EffectBeside
from nas.analysis.answer import PlaceEffect
from nas.costs import MEASURES, UNITS
from nas.search import Metric
from search_spaces.errors import printable

Spec: TypeAlias = dict[str, Any]
"""A figure as plotly reads it: ``data`` and ``layout``."""

MOST_CURVES = 300
_MOST_SVG = 3_000
"""Points that a browser draws quickly as SVG; more are drawn by WebGL, which starts slowly."""
_MOST_RATES = 24
_MOST_ROWS = 40
_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c6d31")
_SYMBOLS = ("circle", "square", "triangle-up", "cross", "pentagon", "star", "hexagon", "triangle-down")
_GREY, _LIMIT = "#8a94a0", "#d55e00"
_GAINS = ((0.0, "#b35806"), (0.25, "#f1a340"), (0.5, "#e8e8ec"), (0.75, "#67a9cf"), (1.0, "#08519c"))
"""Orange for worse, blue for better."""
_FAINT, _FAINTER, _UNSURE = 0.4, 0.18, 0.3
_ROW_PX = 34
_FRONT_NOTE = (
    "Click a trial to copy the command that exports it; click an option to hide or show it. A network with several "
    "options has the colour of the one in most of its slots, at a tie the first in the list. Strong: the front over "
    "all objectives; faint: other trials in full; fainter: stopped early, with their last value. The line is the best "
    "mean at most that dear. Shaded: over the budget."
)
_FRONTS_NOTE = (
    "Each run's networks trained in full. Strong, with intervals: no network of the run that is as cheap has a better "
    "mean. Click a network to copy the command that exports it; click a run to hide or show it. Dashed: a run's "
    "budget, if it is near."
)
_FEW = 60
_LEGEND: Mapping[str, Any] = {
    "orientation": "h",
    "yref": "container",
    "y": 0,
    "yanchor": "bottom",
    "groupclick": "togglegroup",
}


class _Look(NamedTuple):
    """How points that belong together look; a click on ``name`` hides the ``group``."""

    name: str
    group: str
    colour: str
    symbol: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure with its title and how to read it. ``exports``: a click on a trial gives the command to export it."""

    name: str
    title: str
    note: str
    spec: Spec
    exports: bool = False
    beside: bool = False


def pictures(facts: Facts) -> list[Picture]:
    """All pictures of a run, the most important first; those without data are left out."""
    metric, run, answer = facts.run.metric, facts.run, facts.answer
    found: list[Picture] = []
    if answer is not None and answer.effects:
        table = drawn.placement_map(answer, run.space)
        found.append(
            Picture(
                "map",
                "Where attention pays",
                f"By how much each option in each place improves {metric.label}, against the empty slot"
                f"{_unit(metric.shown.difference)}. Faint: the interval contains 0, so the sign is not known.",
                placement_map(table, metric),
                beside=True,
            )
        )
        rates = gain_per_cost(answer.effects, metric)
        if rates["data"]:
            found.append(
                Picture(
                    "per-cost",
                    "What a gain costs",
                    f"Gain in {metric.label} per unit of cost that the option adds, with 95 % intervals; at most "
                    f"{_MOST_RATES} placements, the best lower bounds. Hollow: the interval contains 0. Placements "
                    "that add no cost are left out.",
                    rates,
                    beside=True,
                )
            )
    dots = drawn.dots(facts)
    order = drawn.options_of(run.space, facts.trials)
    for measure in run.measures:
        if any(measure in dot.costs for dot in dots):
            limit = run.limits.get(measure)
            found.append(
                Picture(
                    f"front-{measure}",
                    f"{_first_upper(metric.label)} against {MEASURES[measure].label}",
                    _FRONT_NOTE if measure == run.measures[0] else "As above.",
                    front(dots, order, measure, metric, limit),
                    exports=True,
                )
            )
    told, of = drawn.curves(facts, MOST_CURVES)
    if told:
        shown = "all trials" if len(told) == of else f"{len(told)} of {of} trials: the front, the baselines, every n-th"
        found.append(
            Picture(
                "curves",
                "Learning curves",
                f"{_first_upper(metric.label)} on validation data after each epoch, of {shown}. Strong: the front.",
                learning_curves(told, order, metric),
                exports=True,
            )
        )
    return found + _of_the_search(facts)


def _of_the_search(facts: Facts) -> list[Picture]:
    """How the search went: growth of the front, what the budget refused, what early epochs say."""
    found: list[Picture] = []
    series = drawn.growth(facts)
    if series:
        found.append(
            Picture(
                "growth",
                "Convergence",
                "The hypervolume of the front, as a share of its box, after each trial in full; on the right, the same "
                "over the epochs of all trials up to it, those stopped early included.",
                growth(series),
            )
        )
    refused = [row for row in drawn.refused(facts) if row.over]
    if refused:
        counts = ", ".join(f"{count} by {stage}" for stage, count in facts.spent["rejected"].items())
        found.append(
            Picture(
                "budget",
                "What the budget refused",
                f"Proposals over each limit, and how many of them a limit 10 % higher would admit, all else equal. As "
                f"far as the run knows: a proposal over a counted limit was not measured. Of all: {counts}.",
                budget(refused),
                beside=True,
            )
        )
    ranks = {**facts.spent["early_ranks"], **facts.spent["silent_rungs"]}
    if ranks:
        found.append(
            Picture(
                "ranks",
                "What early epochs say",
                "Rank correlation of the metric at each rung with the end, over the trials trained in full. Hollow: "
                "too low, so no trial was stopped there. Near 0, early stopping chooses at random.",
                rung_agreement(ranks, set(facts.spent["silent_rungs"])),
                beside=True,
            )
        )
    return found


def comparison_pictures(found: Comparison) -> list[Picture]:
    """All pictures of several runs side by side; those without data are left out."""
    metric = found.sides[0].facts.run.metric
    names = [side.name for side in found.sides]
    pictures = []
    shown = sorted(found.effects, key=lambda one: -len(one.told))[:_MOST_ROWS]
    kept = [one for one in found.effects if one in shown]
    if kept:
        left = f" The {_MOST_ROWS} of {len(found.effects)} placements of which most is known." * (
            len(kept) < len(found.effects)
        )
        rows = [(one.effects, f"{verdict(one, found)}. {_gaps(one, found)}") for one in kept]
        pictures.append(
            Picture(
                "effects",
                "Where attention pays, in each run",
                f"By how much each option in each place improves {metric.label}, against the empty slot, with 95 % "
                "intervals that hold together within a run. Hollow: the interval contains 0, so the sign is not known. "
                f"Point at a dot to see what the runs say together.{left}",
                effects_beside(rows, names, metric),
            )
        )
    dots = [drawn.dots(side.facts) for side in found.sides]
    for measure in found.measures:
        if any(measure in dot.costs and dot.state != "stopped" for one in dots for dot in one):
            limits = [side.facts.run.limits.get(measure) for side in found.sides]
            pictures.append(
                Picture(
                    f"front-{measure}",
                    f"{_first_upper(metric.label)} against {MEASURES[measure].label}",
                    _FRONTS_NOTE if measure == found.measures[0] else "As above.",
                    fronts(list(zip(names, dots, limits, strict=True)), measure, metric),
                    exports=True,
                )
            )
    return pictures


def _gaps(one: EffectBeside, found: Comparison) -> str:
    told = "; ".join(gap_text(gap, found) for gap in one.gaps)
    return f"{told}, intervals that hold together over all placements" if told else ""


def placement_map(table: PlacementMap, metric: Metric) -> Spec:
    """The gains as a heat map: sure ones strong, the others faint; the number and its interval in each cell."""
    factor = metric.shown.factor
    reach = max((abs(factor * effect.gain.value) for effect in table.cells.values()), default=1.0) or 1.0
    traces: list[Spec] = []
    for sure in (True, False):
        cells = {place: effect for place, effect in table.cells.items() if (effect.gain.sign != 0) == sure}
        if not cells:
            continue
        empty: list[list[Any]] = [[None] * len(table.columns) for _ in table.rows]
        values, hover = [list(row) for row in empty], [list(row) for row in empty]
        for (row, column), effect in cells.items():
            values[row][column] = factor * effect.gain.value
            hover[row][column] = _effect_text(effect, metric)
        traces.append(
            {
                "type": "heatmap",
                "z": values,
                "hovertext": hover,
                "hoverinfo": "text",
                "hoverongaps": False,
                "coloraxis": "coloraxis",
                "opacity": 1.0 if sure else _UNSURE,
                "xgap": 3,
                "ygap": 3,
                "name": "sign known" if sure else "sign not known",
            }
        )
        text: Spec = {
            "type": "scatter",
            "mode": "text",
            "x": [column for _, column in cells],
            "y": [row for row, _ in cells],
            "text": [
                f"<b>{_signed(effect.gain.value, metric)}</b><br><span style='font-size:9px'>"
                f"{_signed(effect.gain.low, metric)} to {_signed(effect.gain.high, metric)}</span>"
                for effect in cells.values()
            ],
            "hoverinfo": "skip",
            "showlegend": False,
        }
        if sure:  # on a faint cell the text has the page's colour
            text["textfont"] = {
                "color": [
                    "#ffffff" if abs(factor * effect.gain.value) > 0.7 * reach else "#14181d"
                    for effect in cells.values()
                ]
            }
        traces.append(text)
    return {
        "data": traces,
        "layout": {
            "height": 110 + _ROW_PX * max(len(table.rows), 2),
            "margin": {"l": 10, "r": 10, "t": 60, "b": 10},
            "showlegend": False,
            "coloraxis": {
                "cmin": -reach,
                "cmax": reach,
                "colorscale": [list(step) for step in _GAINS],
                "colorbar": {"title": {"text": _safe(metric.shown.difference)}, "thickness": 10, "len": 1, "nticks": 5},
            },
            "xaxis": {
                "side": "top",
                "tickvals": list(range(len(table.columns))),
                "ticktext": [f"<b>{_safe(column.option)}</b><br>{column.slot}" for column in table.columns],
                "tickangle": 0,
                "showgrid": False,
                "zeroline": False,
                "fixedrange": True,
                "range": [-0.5, len(table.columns) - 0.5],
            },
            "yaxis": {
                "tickvals": list(range(len(table.rows))),
                "ticktext": [_place(row) for row in table.rows],
                "automargin": True,
                "showgrid": False,
                "zeroline": False,
                "fixedrange": True,
                "range": [len(table.rows) - 0.5, -0.5],
            },
        },
    }


def gain_per_cost(effects: Sequence[PlaceEffect], metric: Metric) -> Spec:
    """Gain per added cost as dots with intervals, the best lower bound on top; a menu chooses the cost."""
    paid = {name: drawn.rates(effects, name, metric)[:_MOST_RATES][::-1] for name in MEASURES}  # the last is on top
    # Time is what most users pay with; where the run has none, its first cost.
    measures = sorted((name for name in paid if paid[name]), key=lambda name: name != "latency_ms")
    if not measures:
        return {"data": [], "layout": {}}
    titles = {
        name: _safe(f"{metric.shown.difference or metric.label} per {UNITS[MEASURES[name].unit].axis[1]} of ")
        + MEASURES[name].label
        for name in measures
    }
    rows = {name: [_label(rate.effect) for rate in paid[name]] for name in measures}
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [rate.value for rate in paid[name]],
            "y": rows[name],
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [rate.high - rate.value for rate in paid[name]],
                "arrayminus": [rate.value - rate.low for rate in paid[name]],
                "thickness": 1.2,
                "width": 0,
                "color": _GREY,
            },
            "marker": {
                "size": 9,
                "color": [_PALETTE[0] if rate.value > 0 else _PALETTE[1] for rate in paid[name]],
                "symbol": ["circle" if rate.effect.gain.sign else "circle-open" for rate in paid[name]],
            },
            "hovertext": [
                f"<b>{rate.value:+.3g}</b> ({rate.low:+.3g} to {rate.high:+.3g}) {titles[name]}<br>"
                f"{_effect_text(rate.effect, metric)}"
                for rate in paid[name]
            ],
            "hoverinfo": "text",
            "visible": name == measures[0],
        }
        for name in measures
    ]
    layout: Spec = {
        "height": 110 + 22 * max(map(len, rows.values())),
        "margin": {"l": 10, "r": 10, "t": 50, "b": 50},
        "showlegend": False,
        "xaxis": {"title": {"text": titles[measures[0]]}, "zeroline": True},
        "yaxis": {
            "automargin": True,
            "showgrid": False,
            "categoryorder": "array",
            "categoryarray": rows[measures[0]],
        },
    }
    if len(measures) > 1:
        layout["updatemenus"] = [
            {
                "buttons": [
                    {
                        "label": name,
                        "method": "update",
                        "args": [
                            {"visible": [other == name for other in measures]},
                            {"xaxis.title.text": titles[name], "yaxis.categoryarray": rows[name]},
                        ],
                    }
                    for name in measures
                ],
                "x": 0,
                "xanchor": "left",
                "y": 1.0,
                "yanchor": "bottom",
                "pad": {"b": 8},
            }
        ]
    return {"data": traces, "layout": layout}


def front(dots: Sequence[Dot], order: Sequence[str], measure: str, metric: Metric, limit: float | None) -> Spec:
    """The trials' metric against a cost, by option; ``limit`` in base units. Each point's customdata is its trial."""
    drawn_here = [dot for dot in dots if measure in dot.costs]
    heavy = "scattergl" if len(drawn_here) > _MOST_SVG else "scatter"
    traces: list[Spec] = []
    steps = drawn.staircase(drawn_here, measure, higher_is_better=metric.direction == "maximize")
    if steps:
        traces.append(_staircase(steps, measure, "best mean", _GREY))
    for option, state in itertools.product(order, ("stopped", "complete", "front")):
        found = [dot for dot in drawn_here if dot.option == option and dot.state == state]
        if found:
            look = _Look(_safe(option), option, _colour(option, order), _symbol(option, order))
            traces.append(_dots(found, look, state, measure, metric, heavy))
    baselines = [dot for dot in drawn_here if dot.baseline and dot.state != "stopped"]
    if baselines:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": "baseline",
                "x": [dot.costs[measure] for dot in baselines],
                "y": [dot.mean for dot in baselines],
                "text": [_safe(dot.baseline) for dot in baselines],
                "textposition": "top center",
                "marker": {"size": 15, "symbol": "diamond-open", "color": _GREY, "line": {"width": 2}},
                "hoverinfo": "skip",
            }
        )
    seen = [trace for trace in traces if "legendgroup" in trace]
    for option in order:  # each option once in the legend
        for index, trace in enumerate([trace for trace in reversed(seen) if trace["legendgroup"] == option]):
            trace["showlegend"] = index == 0
    layout = _front_layout(drawn_here, measure, metric)
    if limit is not None:
        at = scaled(limit, measure)
        far = max([at, *(dot.costs[measure] for dot in drawn_here)])
        near = min([at, *(dot.costs[measure] for dot in drawn_here)])
        edge = far + 0.06 * (far - near or abs(far) or 1.0)
        layout["xaxis"]["range"] = [near - 0.05 * (edge - near), edge]
        layout["shapes"] = [
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": at,
                "x1": edge,
                "y0": 0,
                "y1": 1,
                "fillcolor": _LIMIT,
                "opacity": 0.12,
                "line": {"width": 0},
                "layer": "below",
            },
            _limit_line(at, _LIMIT),
        ]
        layout["annotations"] = [_limit_name(at, f"budget {measure_amount(limit, measure)}")]
    return {"data": traces, "layout": layout}


def fronts(runs: Sequence[tuple[str, Sequence[Dot], float | None]], measure: str, metric: Metric) -> Spec:
    """Several runs' trials against a cost: name, trials and limit (in base units) of each run.

    Each run has its colour and its own line of best means; the trials on the line have their intervals in view. Each
    point's customdata is its trial, and its trace's ``meta`` the index of its run.
    """
    traces: list[Spec] = []
    layout = _front_layout([], measure, metric)
    seen: list[Dot] = []
    for index, (name, dots, _) in enumerate(runs):
        here = [dot for dot in dots if measure in dot.costs and dot.state != "stopped"]
        steps = drawn.staircase(here, measure, higher_is_better=metric.direction == "maximize")
        on_line = {dot.trial for dot in steps}
        here = [replace(dot, state="front" if dot.trial in on_line else "complete") for dot in here]
        seen += here
        colour = _run_colour(index)
        if steps:
            traces.append(_staircase(steps, measure, _safe(name), colour) | {"legendgroup": name, "showlegend": False})
        for state in ("complete", "front"):
            found = [dot for dot in here if dot.state == state]
            if found:
                look = _Look(_safe(name), name, colour, _SYMBOLS[index % len(_SYMBOLS)])
                told = _dots(found, look, state, measure, metric, "scatter")
                told["hovertext"] = [f"<b>{_safe(name)}</b>, {text}" for text in told["hovertext"]]
                traces.append(told | {"meta": index, "showlegend": state == "front"})
    costs = [dot.costs[measure] for dot in seen]
    for index, (name, _, limit) in enumerate(runs):
        # A limit far above all networks would press them together.
        if limit is not None and costs and scaled(limit, measure) <= 1.25 * max(costs) - 0.25 * min(costs):
            at, text = scaled(limit, measure), f"{_safe(name[0])}: budget {measure_amount(limit, measure)}"
            layout.setdefault("shapes", []).append(_limit_line(at, _run_colour(index)))
            layout.setdefault("annotations", []).append(_limit_name(at, text) | {"yshift": 14 * index})
    layout["yaxis"] |= _range(seen, metric)
    layout["margin"]["t"] = 30 + 14 * len(runs)
    return {"data": traces, "layout": layout}


def effects_beside(rows: Sequence[tuple[Mapping[int, PlaceEffect], str]], names: Sequence[str], metric: Metric) -> Spec:
    """Each placement's gain in each run, as a dot with its interval, the first row on top.

    Args:
        rows: The effects of one placement by the run's index, and what its text adds.
        names: Of the runs.
        metric: Of the runs.
    """
    factor = metric.shown.factor
    traces: list[Spec] = []
    for index, name in enumerate(names):
        here = [(row, effects[index], more) for row, (effects, more) in enumerate(rows) if index in effects]
        shift = 0.5 * ((index + 0.5) / len(names) - 0.5)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": _safe(name),
                "x": [factor * effect.gain.value for _, effect, _ in here],
                "y": [row + shift for row, _, _ in here],
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [factor * (effect.gain.high - effect.gain.value) for _, effect, _ in here],
                    "arrayminus": [factor * (effect.gain.value - effect.gain.low) for _, effect, _ in here],
                    "thickness": 1.4,
                    "width": 0,
                },
                "marker": {
                    "size": 9,
                    "color": _run_colour(index),
                    "symbol": [
                        _SYMBOLS[index % len(_SYMBOLS)] + ("" if effect.gain.sign else "-open") for _, effect, _ in here
                    ],
                },
                "hovertext": [
                    f"<b>{_safe(name)}</b>: {_effect_text(effect, metric)}<br>{_folded(more)}"
                    for _, effect, more in here
                ],
                "hoverinfo": "text",
            }
        )
    labels = [_label(next(iter(effects.values()))) for effects, _ in rows]
    return {
        "data": traces,
        "layout": {
            "height": 130 + (14 + 12 * len(names)) * len(rows),
            "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
            "xaxis": {
                "title": {"text": _safe(f"gain in {metric.label}") + _unit(metric.shown.difference)},
                "zeroline": True,
                "automargin": True,
            },
            "yaxis": {
                "tickvals": list(range(len(rows))),
                "ticktext": labels,
                "automargin": True,
                "zeroline": False,
                "range": [len(rows) - 0.4, -0.6],
            },
            "hovermode": "closest",
            "legend": _LEGEND,
        },
    }


def learning_curves(found: Sequence[Curve], order: Sequence[str], metric: Metric) -> Spec:
    """The curves by option; one trace holds many, with gaps between them. Each point's customdata is its trial."""
    traces: list[Spec] = []
    last = max((curve.epochs[-1] for curve in found if curve.epochs), default=1)
    points = sum(len(curve.epochs) for curve in found)
    for option, strong in itertools.product(order, (False, True)):
        here = [curve for curve in found if curve.option == option and curve.front == strong]
        if not here:
            continue
        traces.append(
            {
                "type": "scattergl" if points > _MOST_SVG else "scatter",
                "mode": "lines+markers" if strong else "lines",
                "name": _safe(option),
                "legendgroup": option,
                "x": [x for curve in here for x in (*curve.epochs, None)],
                "y": [y for curve in here for y in (*curve.values, None)],
                "customdata": [curve.trial for curve in here for _ in range(len(curve.epochs) + 1)],
                "hovertemplate": "trial %{customdata}, epoch %{x}: %{y:.4g}<extra>" + _safe(option) + "</extra>",
                "line": {"color": _colour(option, order), "width": 2.2 if strong else 1},
                "marker": {"size": 5, "symbol": _symbol(option, order)},
                "opacity": 1.0 if strong else _FAINT,
                "connectgaps": False,
            }
        )
    for option in order:
        for index, trace in enumerate([trace for trace in reversed(traces) if trace["legendgroup"] == option]):
            trace["showlegend"] = index == 0
    return {
        "data": traces,
        "layout": {
            "height": 420,
            "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
            "xaxis": {"title": {"text": "epoch"}, "automargin": True, "tick0": 0, "dtick": _ticks(last)},
            "yaxis": {
                "title": {"text": _safe(drawn.axis(metric))},
                "automargin": True,
            },
            "hovermode": "closest",
            "legend": _LEGEND,
        },
    }


def growth(series: Sequence[Grown]) -> Spec:
    """The hypervolume over finished trials, and over epochs spent, with one scale."""
    lines = [
        {
            "type": "scatter",
            "mode": "lines+markers" if len(series) <= _FEW else "lines",
            "x": x,
            "y": [one.hypervolume for one in series],
            "line": {"shape": "hv", "color": _PALETTE[0], "width": 2},
            "hovertemplate": f"%{{y:.4f}} after %{{x}} {what}<extra></extra>",
            "xaxis": axis,
        }
        for x, what, axis in (
            ([one.trials for one in series], "trials in full", "x"),
            ([one.epochs for one in series], "epochs", "x2"),
        )
    ]
    return {
        "data": lines,
        "layout": {
            "height": 300,
            "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
            "showlegend": False,
            "xaxis": {"title": {"text": "trials in full"}, "domain": [0, 0.48], "automargin": True},
            "xaxis2": {"title": {"text": "epochs spent"}, "domain": [0.52, 1], "automargin": True},
            "yaxis": {"title": {"text": "hypervolume"}, "automargin": True},
        },
    }


def budget(refused: Sequence[Refused]) -> Spec:
    """Two bars for each limit: proposals over it, and those that a limit 10 % higher would admit."""
    names = [row.measure for row in refused][::-1]
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "name": name,
                "y": names,
                "x": counts[::-1],
                "text": counts[::-1],
                "textposition": "auto",
                "marker": {"color": colour},
                "hoverinfo": "skip",
            }
            for name, counts, colour in (
                ("admitted by 10 % more", [row.relaxed for row in refused], _PALETTE[2]),
                ("over the limit", [row.over for row in refused], _PALETTE[1]),
            )
        ],
        "layout": {
            "height": 120 + 60 * len(refused),
            "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
            "barmode": "group",
            "xaxis": {
                "title": {"text": "proposals"},
                "automargin": True,
                "tick0": 0,
                "dtick": _ticks(max(row.over for row in refused)),
            },
            "yaxis": {"automargin": True},
            "legend": {**_LEGEND, "traceorder": "reversed"},
        },
    }


def rung_agreement(ranks: Mapping[int, float], silent: Set[int]) -> Spec:
    """Epoch of a rung -> its rank correlation with the end; hollow where no trial was stopped."""
    epochs = sorted(ranks)
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": epochs,
                "y": [ranks[epoch] for epoch in epochs],
                "line": {"color": _PALETTE[0]},
                "marker": {"size": 10, "symbol": ["circle-open" if epoch in silent else "circle" for epoch in epochs]},
                "hovertemplate": "epoch %{x}: %{y:.2f}<extra></extra>",
            }
        ],
        "layout": {
            "height": 240,
            "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
            "xaxis": {"title": {"text": "epoch"}, "automargin": True, "tickvals": epochs},
            "yaxis": {
                "title": {"text": "rank correlation"},
                "automargin": True,
                "range": [min(0, *ranks.values()), 1.05],
            },
        },
    }


def _front_layout(dots: Sequence[Dot], measure: str, metric: Metric) -> Spec:
    return {
        "height": 480,
        "margin": {"l": 10, "r": 10, "t": 30, "b": 10},
        "xaxis": {"title": {"text": LABELS[measure]}, "automargin": True},
        "yaxis": {"title": {"text": _safe(drawn.axis(metric))}, "automargin": True, **_range(dots, metric)},
        "hovermode": "closest",
        "legend": _LEGEND,
    }


def _staircase(steps: Sequence[Dot], measure: str, name: str, colour: str) -> Spec:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [dot.costs[measure] for dot in steps],
        "y": [dot.mean for dot in steps],
        "line": {"shape": "hv", "color": colour, "width": 1.5},
        "hoverinfo": "skip",
    }


def _limit_line(at: float, colour: str) -> Spec:
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": at,
        "x1": at,
        "y0": 0,
        "y1": 1,
        "line": {"color": colour, "width": 1.5, "dash": "dash"},
    }


def _limit_name(at: float, text: str) -> Spec:
    return {
        "x": at,
        "xref": "x",
        "y": 1,
        "yref": "paper",
        "yanchor": "bottom",
        "xanchor": "right",
        "text": text,
        "showarrow": False,
    }


def _dots(found: Sequence[Dot], look: "_Look", state: str, measure: str, metric: Metric, kind: str) -> Spec:
    opacity = {"stopped": _FAINTER, "complete": _FAINT, "front": 1.0}[state]
    trace: Spec = {
        # Only the front has intervals in view; the others have theirs in the text.
        "type": "scatter" if state == "front" else kind,
        "mode": "markers",
        "name": look.name,
        "legendgroup": look.group,
        "x": [dot.costs[measure] for dot in found],
        "y": [dot.mean for dot in found],
        "customdata": [dot.trial for dot in found],
        "hovertext": [_dot_text(dot, metric) for dot in found],
        "hoverinfo": "text",
        "marker": {
            "size": 10 if state == "front" else 7,
            "color": look.colour,
            "symbol": look.symbol,
            "opacity": opacity,
        },
    }
    if state == "front":
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [0.0 if dot.high is None else dot.high - dot.mean for dot in found],
            "arrayminus": [0.0 if dot.low is None else dot.mean - dot.low for dot in found],
            "thickness": 1.2,
            "width": 0,
        }
    return trace


def _range(dots: Sequence[Dot], metric: Metric) -> Spec:
    """The y range of the trials in full: stopped ones, far worse, would flatten the picture; zooming out shows them."""
    complete = [dot for dot in dots if dot.state != "stopped"]
    if not complete:
        return {}
    heights = [height for dot in complete for height in (dot.mean, *_interval_in_view(dot))]
    low, high = min(heights), max(heights)
    room = max(0.08 * (high - low), 1e-3 * max(abs(low), abs(high)), 1e-9)
    sign = 1 if metric.direction == "maximize" else -1
    below, above = (3 * room, room) if sign > 0 else (room, 3 * room)
    return {"range": [low - below, high + above]}


def _interval_in_view(dot: Dot) -> tuple[float, ...]:
    return () if dot.state != "front" or dot.low is None or dot.high is None else (dot.low, dot.high)


def _dot_text(dot: Dot, metric: Metric) -> str:
    shown = metric.shown

    def told(value: float) -> str:
        return metric_figure(value / shown.factor, metric)

    figure = f"<b>{told(dot.mean)} {_safe(shown.symbol)}</b>"
    if dot.low is not None and dot.high is not None:
        figure += f" ({told(dot.low)} to {told(dot.high)})"
    seeds = "stopped early" if dot.state == "stopped" else f"{dot.seeds} seed{'s' if dot.seeds > 1 else ''}"
    costs = "<br>".join(
        f"{measure}: {measure_amount(cost * UNITS[MEASURES[measure].unit].axis[0], measure)}"
        for measure, cost in dot.costs.items()
    )
    head = f"trial {dot.trial}" + ("" if dot.origin == "searched" else f", {_safe(dot.origin)}")
    return f"{head}<br>{_folded(dot.summary)}<br>{figure}, {seeds}<br>{costs}"


def _effect_text(effect: PlaceEffect, metric: Metric) -> str:
    gain = effect.gain
    lines = [
        f"<b>{_safe(effect.place.option)}</b> in {_place(effect.place.label)} ({effect.place.slot})",
        f"{_signed(gain.value, metric)} ({_signed(gain.low, metric)} to {_signed(gain.high, metric)}) "
        f"{_safe(metric.shown.difference)}",
        *(
            f"{measure}: {'+' if added >= 0 else '-'}{measure_amount(abs(added), measure)}"
            for measure, added in effect.costs.items()
        ),
        f"{effect.trainings} training{'' if effect.trainings == 1 else 's'} with it",
        _more(effect.more),
    ]
    return "<br>".join(lines)


def _more(trainings: int | None) -> str:
    if trainings is None:
        return "a thousand more trainings would not tell the sign"
    if trainings == 0:
        return "the sign is known"
    return f"about {trainings} more training{'' if trainings == 1 else 's'} would tell the sign"


def _label(effect: PlaceEffect) -> str:
    return f"{_safe(effect.place.option)} {_place(effect.place.label)} {effect.place.slot}"


def _place(label: str) -> str:
    return "everywhere" if label == "*" else _safe(label)


def _signed(value: float, metric: Metric) -> str:
    """A difference of the metric with its sign, without its unit."""
    return f"{'-' if value < 0 else '+'}{metric_figure(abs(value), metric)}"


def _ticks(count: int) -> int:
    """The whole step between ticks up to a count, at most ten ticks."""
    return max(-(-count // 10), 1)


def _colour(option: str, order: Sequence[str]) -> str:
    return _GREY if option == PLAIN else _PALETTE[(order.index(option) - 1) % len(_PALETTE)]


def _run_colour(index: int) -> str:
    return _PALETTE[index % len(_PALETTE)]


def _symbol(option: str, order: Sequence[str]) -> str:
    return _SYMBOLS[order.index(option) % len(_SYMBOLS)]


def _folded(text: str, width: int = 60) -> str:
    """A text as lines of a hover box."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(_safe(line) for line in lines)


def _unit(symbol: str) -> str:
    return f", {_safe(symbol)}" if symbol else ""


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _safe(text: str) -> str:
    """A name as plotly's text: it reads some HTML there, and ``%{...}`` in templates."""
    return html.escape(printable(text)).replace("%{", "%&#123;")
