"""The output of `nas proxy`: how well each epoch of each proxy ranks networks, and what to use."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from launch.reports.tables import duration, metric_figure
from launch.survey import FULL, Curves
from nas.analysis.agreement import Advice, Agreement, advise, agreement, enough
from nas.analysis.intervals import Interval
from nas.search import Metric


def agreement_rows(curves: Mapping[str, Curves]) -> tuple[list[dict[str, Any]], list[str]]:
    """One row per proxy and epoch, JSON-able, and the advice in sentences.

    Args:
        curves: By proxy; `FULL` is the one that the others are compared with.
    """
    ends = curves[FULL].values[:, :, -1]
    found = {
        name: [agreement(of.values[:, :, epoch], ends) for epoch in range(of.values.shape[2])]
        for name, of in curves.items()
    }
    rows = [
        {
            "proxy": name,
            "epoch": epoch,
            "core_seconds": seconds,
            **asdict(one),
            "signal2_per_core_minute": 60 * one.signal.value**2 / seconds,
        }
        for name, of in curves.items()
        for epoch, (one, seconds) in enumerate(zip(found[name], of.seconds.tolist(), strict=True), 1)
    ]
    return rows, [*_stopping(advise(found[FULL])), *_cheaper(found, curves)]


def agreement_cells(row: Mapping[str, Any], metric: Metric) -> dict[str, str | int]:
    """A row of `agreement_rows` as text; rank correlations and the signal with their 95 % intervals."""
    return {
        "proxy": row["proxy"],
        "epoch": row["epoch"],
        "core time": duration(row["core_seconds"]),
        "own end": str(Interval(**row["own_end"])),
        "another seed's end": str(Interval(**row["other_end"])),
        "spread of seeds": metric_figure(row["spread"], metric, more=1),
        "signal": str(Interval(**row["signal"])),
        "signal² per core-minute": f"{row['signal2_per_core_minute']:.3g}",
    }


def _stopping(advice: Advice) -> list[str]:
    if advice.rung is None:
        return [f"Early stopping cannot help here: {advice.why}. Use --set search.stopping=none"]
    first, eta = advice.rung
    return [f"Early stopping can help: {advice.why}. Use --set search.min_epochs={first} --set search.eta={eta}"]


def _cheaper(found: Mapping[str, list[Agreement]], curves: Mapping[str, Curves]) -> list[str]:
    """A sentence for each cheaper proxy: whether its end ranks the networks as a full training with another seed."""
    ceiling = found[FULL][-1].other_end
    lines = []
    for name, of in found.items():
        if name == FULL:
            continue
        end, share = of[-1].other_end, curves[name].seconds[-1] / curves[FULL].seconds[-1]
        verdict = "is enough" if enough(end, ceiling) else "is not enough"
        lines.append(
            f"{name} {verdict}: its end agrees with another seed's full training with {end}, a second full "
            f"training with {ceiling}; it takes {share:.0%} of the time"
        )
    return lines
