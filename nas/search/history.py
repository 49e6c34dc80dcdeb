"""The trials of a study as data for the surrogate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.search import records
from nas.search.metrics import metric_among
from nas.search.parameters import Axes, Axis, learn_openings
from nas.search.pareto import layers

_FEWEST_COMPLETE = 5
_FEWEST_AT_A_RUNG = 8
_MOST_TRAINED = 256
_MOST_OTHERS = 128
_MOST_RANKED = 1_000


@dataclass(frozen=True, slots=True)
class Observation:
    """A trial. Objectives are minimised.

    ``values``: [m], NaN if unknown. ``curve``: epoch -> the training metric. ``constraints``: at most 0 if they hold.
    ``complete``: trained to full length, within its constraints. ``open``: it has not ended.
    """

    number: int
    params: Mapping[str, Any]
    levels: tuple[int, ...]
    values: tuple[float, ...]
    curve: Mapping[int, float]
    constraints: Mapping[str, float]
    complete: bool
    open: bool


@dataclass(frozen=True)
class Targets:
    """Training data of the surrogates.

    ``values`` [n, m], NaN if unknown; ``variances`` [n, m]: variances of the values' errors; ``finished`` [n]: whether
    the row's values are final, or are treated as final for now.
    """

    values: NDArray[np.float64]
    variances: NDArray[np.float64]
    finished: NDArray[np.bool_]


class StudyHistory:
    """The trials of one study, each parsed once when it has ended, and again with every epoch until then.

    With `axes` None, the axes are learnt: every parameter of a finished trial, and its condition. ``rows``: trials that
    ended, in the order in which they were read; ``open``: the other trials; ``tried``: the levels of all; ``told``: the
    index of the training metric. `sample` bounds the number of rows, so that the time of a proposal does not grow.
    """

    def __init__(self, study: optuna.Study, axes: Axes | None) -> None:
        self.study = study
        self._given = axes
        self.signs = [-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in study.directions]
        metrics = study.metric_names
        self._metrics = metrics or [""] * len(self.signs)
        self.told = metric_among(self._metrics) or 0
        self._clear({})

    def _clear(self, distributions: dict[str, BaseDistribution]) -> None:
        self._distributions = distributions
        self.axes = self._given or Axes(tuple(Axis.of(name, d) for name, d in distributions.items()), {})
        self.rows: list[Observation] = []
        self.open: list[Observation] = []
        self.tried: set[tuple[int, ...]] = set()
        self._parsed: set[int] = set()
        self._ended = 0
        self._parsed_open: dict[int, tuple[int, Observation]] = {}
        self._trained: list[int] = []
        self._others: list[int] = []
        self._elite: list[int] = []
        self._learnt_from = 0

    def update(self, trials: Sequence[FrozenTrial], but: int | None = None) -> None:
        """Reads what changed since the last call; leaves out trial `but`, which awaits its proposal."""
        while self._ended < len(trials) and trials[self._ended].number in self._parsed:
            self._ended += 1
        unparsed = [trial for trial in trials[self._ended :] if trial.number not in self._parsed]
        new = [trial for trial in unparsed if trial.state.is_finished()]
        if self._given is None and any(
            self._distributions.get(name) != distribution
            for trial in new
            for name, distribution in trial.distributions.items()
        ):
            # New parameters, or other ranges: the levels of all trials change.
            distributions = dict(self._distributions)
            for trial in new:
                distributions.update(trial.distributions)
            self._clear(distributions)
            new = [trial for trial in trials if trial.state.is_finished()]
        for trial in new:
            self._parsed_open.pop(trial.number, None)
            self._parsed.add(trial.number)
            self._add(self.row(trial))
        for start in range(0, len(new), _MOST_RANKED):
            self._rank(range(len(self.rows) - len(new) + start, len(self.rows))[:_MOST_RANKED])
        self._learn_openings()
        running = [trial for trial in unparsed if trial.state == TrialState.RUNNING and trial.number != but]
        self.open = [self._open_row(trial) for trial in running]
        self.tried.update(row.levels for row in self.open)

    def _add(self, row: Observation) -> None:
        (self._trained if row.complete or row.curve else self._others).append(len(self.rows))
        self.rows.append(row)
        self.tried.add(row.levels)

    def _rank(self, new: Sequence[int]) -> None:
        """Adds new rows to the elite and drops the worst; a row that was dropped once cannot return."""
        candidates = [*self._elite, *(index for index in new if self.rows[index].complete)]
        if len(candidates) > _MOST_TRAINED // 2:
            order = np.argsort(layers([self.rows[index].values for index in candidates]), kind="stable")
            candidates = [candidates[place] for place in order[: _MOST_TRAINED // 2]]
        self._elite = sorted(candidates)

    def _open_row(self, trial: FrozenTrial) -> Observation:
        known = len(trial.user_attrs) + len(trial.intermediate_values) + len(trial.params)
        if trial.number not in self._parsed_open or self._parsed_open[trial.number][0] != known:
            self._parsed_open[trial.number] = (known, self.row(trial))
        return self._parsed_open[trial.number][1]

    def sample(self) -> list[Observation]:
        """The rows for a proposal: all, or a selection if there are very many.

        Half of the selected trained rows are the best by layers; the other half is spread over the rest. Of the rows
        without training (over budget, failed), the latest are selected. Running trials without an epoch are all
        included.
        """
        waiting = [row for row in self.open if row.curve]
        if len(self._trained) + len(waiting) <= _MOST_TRAINED:
            trained = [self.rows[index] for index in self._trained] + waiting
        else:
            elite = set(self._elite)
            rest = [index for index in self._trained if index not in elite]
            places = np.linspace(0, len(rest) + len(waiting) - 1, _MOST_TRAINED - len(elite)).astype(int).tolist()
            trained = [self.rows[index] for index in self._elite]
            trained += [self.rows[rest[p]] if p < len(rest) else waiting[p - len(rest)] for p in places]
        others = [self.rows[index] for index in self._others[-_MOST_OTHERS:]]
        return [*trained, *others, *(row for row in self.open if not row.curve)]

    def closing(self) -> list[Observation]:
        """The rows for the choice among waiting trials when nothing is left to propose.

        All trained rows; if there are very many, the best by layers of the complete and of the waiting ones.
        """
        waiting = [row for row in self.open if row.curve]
        begun = [row for row in self.open if not row.curve]
        if len(self._trained) + len(waiting) <= _MOST_TRAINED:
            return [*(self.rows[index] for index in self._trained), *waiting, *begun]
        best = [self.rows[index] for index in self._elite]
        values = self.targets([*best, *waiting]).values[len(best) :]
        told = np.flatnonzero(np.isfinite(values).all(axis=1))
        order = told[np.argsort(layers(values[told]), kind="stable")][: _MOST_TRAINED - len(best)]
        return [*best, *(waiting[index] for index in order.tolist()), *begun]

    def row(self, trial: FrozenTrial) -> Observation:
        """A trial, finished or not."""
        attrs = trial.user_attrs
        constraints = trial.constraints
        feasible = all(value <= 0 for value in constraints.values())
        complete = trial.state == TrialState.COMPLETE
        if complete and records.REJECTED not in attrs:
            values = [sign * value for sign, value in zip(self.signs, trial.values, strict=True)]
        else:
            costs = attrs.get(records.COSTS, {})
            values = [
                sign * costs[metric]["value"] if metric in costs else np.nan
                for sign, metric in zip(self.signs, self._metrics, strict=True)
            ]
        curve = dict(trial.intermediate_values)
        told, sign = self._metrics[self.told], self.signs[self.told]
        curve.update(
            (n, record.metrics[told]) for n, record in records.epochs_of(trial).items() if told in record.metrics
        )
        return Observation(
            number=trial.number,
            params=trial.params,
            levels=tuple(self.axes.levels(trial.params)),
            values=tuple(values),
            curve={epoch: sign * value for epoch, value in curve.items() if np.isfinite(value)},
            constraints=constraints,
            complete=complete and feasible and bool(trial.params) and records.DUPLICATE_OF not in attrs,
            open=not trial.state.is_finished(),
        )

    def targets(self, rows: Sequence[Observation]) -> Targets:
        """The values to learn from; those of stopped and running trials are extrapolated to the full length.

        A least-squares line, over the trials with values at epoch e and at the end, maps a value at e to the end; its
        residual variance is the variance of the extrapolated value. While few trials are complete, the highest epoch
        that enough trials reached takes the place of the end.
        """
        m = len(self.signs)
        values = np.array([row.values for row in rows]).reshape(len(rows), m)
        variances = np.zeros_like(values)
        final = np.array([row.complete for row in rows], dtype=bool)
        known = values[:, self.told]
        if final.sum() < _FEWEST_COMPLETE:
            reached = [epoch for row in rows for epoch in row.curve]
            enough = [epoch for epoch in set(reached) if reached.count(epoch) >= _FEWEST_AT_A_RUNG]
            if enough:
                rung = max(enough)
                known[:] = [row.curve.get(rung, np.nan) for row in rows]
                # A baseline outside the space has no parameters, and so no neighbours.
                final = np.isfinite(values).all(axis=1) & np.array([bool(row.params) for row in rows], dtype=bool)
        full = [(row, value) for row, value in zip(rows, known.tolist(), strict=True) if np.isfinite(value)]
        early: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            if row.curve and np.isnan(known[index]):
                early.setdefault(max(row.curve), []).append(index)
        for epoch, indices in early.items():
            pairs = [(row.curve[epoch], value) for row, value in full if epoch in row.curve]
            if len(pairs) >= _FEWEST_COMPLETE:
                (intercept, slope), variance = _line(np.array(pairs))
                known[indices] = [intercept + slope * rows[index].curve[epoch] for index in indices]
                variances[indices, self.told] = variance
        return Targets(values, variances, final)

    def _learn_openings(self) -> None:
        """Learns the conditions of parameters again whenever the number of trials has doubled."""
        count = 1 << (len(self.rows).bit_length() - 1) if self.rows else 0
        if self._given is None and count != self._learnt_from:
            levels = np.array([row.levels for row in self.rows[:count]])
            self.axes = Axes(self.axes.axes, learn_openings(levels, self.axes.sizes.tolist()))
            self._learnt_from = count


def _line(pairs: NDArray[np.float64]) -> tuple[tuple[float, float], float]:
    """Intercept and slope (not below 0) of [n, 2], and the variance around it."""
    x, y = pairs.T
    spread = float(((x - x.mean()) ** 2).sum())
    slope = max(float(((x - x.mean()) * (y - y.mean())).sum()) / spread, 0.0) if spread > 0 else 0.0
    intercept = float(y.mean()) - slope * float(x.mean())
    residual = y - intercept - slope * x
    return (intercept, slope), float((residual**2).sum() / max(len(y) - 2, 1))
