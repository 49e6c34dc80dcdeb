"""Tables for people and JSON for programs, from the same rows."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from nas.costs import MEASURES
from nas.search import Metric
from search_spaces import Value


def print_table(
    console: Console,
    rows: Sequence[Mapping[str, Any]],
    *,
    columns: Sequence[str] | None = None,
    title: str | None = None,
) -> None:
    """One row per mapping, numbers aligned right. `columns`: names and order; default: the keys of the first row."""
    names = list(columns or (rows[0] if rows else ()))
    if title:
        console.print(title, soft_wrap=True)  # rich would fold a table's own title to the table's width
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(text(row.get(name)) for name in names))
    console.print(table)


def print_json(data: object) -> None:
    """Prints data as JSON on standard output."""
    sys.stdout.write(json_text(data))


def json_text(data: object) -> str:
    """Data as JSON text. Figures that are not finite become null, because JSON cannot express them."""
    return json.dumps(finite(data), indent=2, allow_nan=False) + "\n"


def finite(data: object) -> object:
    """Data with None for each figure that is not finite."""
    match data:
        case float():
            return data if math.isfinite(data) else None
        case Mapping():
            return {key: finite(value) for key, value in data.items()}
        case list() | tuple():
            return [finite(value) for value in data]
    return data


def text(value: object) -> str:
    """The text of a cell."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
        case int():
            return f"{value:,}"
        case _:
            return str(value)


def amount(value: float, unit: str) -> str:
    """A figure with a unit that suits its size: `25.6 M`, `1.3 GiB`, `2.41 ms`."""
    if unit == "bytes":
        for name, size in (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10)):
            if value >= size:
                return f"{value / size:.3g} {name}"
        return f"{value:.0f} B"
    if unit in ("", "params", "macs", "MACs", "parameters"):
        for name, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
            if value >= size:
                return f"{value / size:.4g} {name}"
        return f"{value:.0f}"
    return f"{value:.3g} {unit}"


def choice(option: str, params: Mapping[str, Value], shown: Sequence[str] | None = None) -> str:
    """An option as text: `aa(kappa=0.2, heads=4)`."""
    inside = ", ".join(f"{k}={text(v)}" for k, v in params.items() if shown is None or k in shown)
    return f"{option}({inside})" if inside else option


def near_miss(over: Mapping[str, tuple[float, float]]) -> str:
    """The limits that the nearest proposal exceeds, by how much, and the limits that would admit it."""
    return ", ".join(
        f"{name} {value / limit - 1:.1%} over its limit of {measure_amount(limit, name)}: "
        f"{measure_amount(value, name)} would do"
        for name, (limit, value) in over.items()
    )


def measure_amount(value: float, measure: str) -> str:
    """A cost with the unit that suits it; a plain number if there is no such measure."""
    return amount(value, MEASURES[measure].unit) if measure in MEASURES else f"{value:g}"


def metric_figure(value: float, metric: Metric, more: int = 0) -> str:
    """A metric as a number without its unit, with `more` decimals than usual: `83.1` for a share of 0.831."""
    shown = metric.shown
    scaled = shown.factor * value
    return f"{scaled:.4g}" if shown.decimals is None else f"{scaled:z.{shown.decimals + more}f}"


def metric_range(low: float, high: float, metric: Metric) -> str:
    """`80.1 to 85.4`: two values of a metric without their unit."""
    return f"{metric_figure(low, metric)} to {metric_figure(high, metric)}"


def metric_amount(value: float, metric: Metric, more: int = 0) -> str:
    """A metric with its unit: `83.1 %`."""
    return f"{metric_figure(value, metric, more)} {metric.shown.symbol}".rstrip()


def probability(value: float) -> str:
    """A share in percent, never 0 % or 100 %: a simulation proves no certainty."""
    return "> 99 %" if value > 0.99 else "< 1 %" if value < 0.01 else f"{100 * value:.0f} %"


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
