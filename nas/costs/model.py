"""Costs of architectures, each from the cheapest source that has the figure."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.builder import build_model
from nas.costs.calibration import load_calibration
from nas.costs.device import fingerprint
from nas.costs.estimate import Conditions, CostEstimate
from nas.costs.fake_tensors import FakeTensorMode, OpTable
from nas.costs.measure import peak_memory, time_together
from nas.costs.measures import MEASURES, Counted, Measure, Mode, PeakMemory, Time
from nas.costs.memory import MemoryProfile, simulate
from nas.costs.store import Store
from nas.costs.timing import ratio, threads, undisturbed
from search_spaces import Architecture

_MEMORY_MARGIN: dict[str, tuple[float, float]] = {"cpu": (0.01, 0.01), "cuda": (0.10, 0.10)}
"""Device -> bounds (below, above) around the analytic peak, as shares of it. On a CPU the analytic peak and the
allocator mostly agree to the byte (docs/costs.md). On CUDA they were never compared; the analytic peak lacks the
workspaces of cuDNN and cuBLAS."""

_QUICK_S, _LONG_S = 0.4, 1.6
_QUICK_ROUNDS, _LONG_ROUNDS = 9, 25


class CostModel:
    """Costs of architectures under one set of conditions. Figures are stored and reused.

    Args:
        conditions: the conditions of every figure.
        cache: file of figures, shared by runs and processes; None: figures are kept only in this process.
        calibration: file from `nas.costs.calibrate`, to predict times; None: times are measured.

    Raises:
        CalibrationError: the calibration cannot be read, or was made on another device or under other conditions.
    """

    def __init__(self, conditions: Conditions, *, cache: Path | None = None, calibration: Path | None = None) -> None:
        self.conditions = conditions
        self._store = Store(cache)
        self._device = fingerprint(conditions.device)
        self._op_table: OpTable = {}
        self._counts: dict[tuple[str, Measure], float] = {}
        self._margin = _MEMORY_MARGIN[self.conditions.device_type]
        self.calibration = None if calibration is None else load_calibration(calibration, conditions)
        self._digests = {measure: self._digest(measure) for measure in MEASURES}

    def estimate(self, architecture: Architecture, measure: Measure) -> CostEstimate:
        """The cost: a stored figure if there is one, else the cheapest estimate.

        Parameters and MACs are counted. Memory comes from a pass without data. Times are predicted if the calibration
        covers the architecture; otherwise they are measured once, relative to the plain skeleton.
        """
        known = self._known(architecture, measure)
        if known is not None:
            return known
        match MEASURES[measure].told:
            case Counted() as told:
                return self._counted(architecture, measure, told)
            case PeakMemory(mode):
                below, above = self._margin
                peak = self.memory(architecture, mode).peak
                bounds = peak * (1 - below), peak * (1 + above)
                return self._keep(
                    architecture, measure, CostEstimate(peak, *bounds, MEASURES[measure].unit, "analytic")
                )
            case Time():
                return self._predicted(architecture, measure) or self.measure(architecture, measure, thorough=False)

    def measure(self, architecture: Architecture, measure: Measure, *, thorough: bool = True) -> CostEstimate:
        """Runs the network even if a figure is known, and stores the result.

        The network and the plain skeleton run in turn. The time is the ratio of their times multiplied by the plain
        skeleton's stored time. Parameters and MACs are counted.

        Args:
            architecture: the network to run.
            measure: the measure.
            thorough: measure times for 1.6 s instead of 0.4 s.
        """
        match MEASURES[measure].told:
            case Counted() as told:
                return self._counted(architecture, measure, told)
            case PeakMemory(mode):
                return self.record(architecture, measure, float(peak_memory(architecture, self.conditions, mode)))
            case Time(mode):
                return self._measure_time(architecture, measure, mode, thorough=thorough)

    def _counted(self, architecture: Architecture, measure: Measure, told: Counted) -> CostEstimate:
        key = architecture.fingerprint, measure
        if key not in self._counts:
            self._counts[key] = float(told.of(architecture))
        value = self._counts[key]
        return CostEstimate(value, value, value, MEASURES[measure].unit, "analytic")

    def _measure_time(
        self, architecture: Architecture, measure: Measure, mode: Mode, *, thorough: bool
    ) -> CostEstimate:
        plain = Architecture(architecture.skeleton)
        base = self._plain_time(plain, measure, mode)
        if architecture == plain:
            return base
        found = ratio(self._time([architecture, plain], mode, thorough=thorough))
        value, lower, upper = (base.value * factor for factor in (found.value, found.lower, found.upper))
        if self.calibration is not None:
            self.calibration = self.calibration.learn(architecture, measure, value)
        return self._keep(architecture, measure, CostEstimate(value, lower, upper, MEASURES[measure].unit, "measured"))

    def must_measure(self, architecture: Architecture, measure: Measure) -> bool:
        """Whether `estimate` would have to run the network."""
        if not isinstance(MEASURES[measure].told, Time):
            return False
        return self._known(architecture, measure) is None and self._predicted(architecture, measure) is None

    def record(self, architecture: Architecture, measure: Measure, value: float) -> CostEstimate:
        """Stores a value that was observed elsewhere, for example by a training that ran out of memory.

        Memory above its estimate's upper bound widens the bounds of later estimates.
        """
        known = self._known(architecture, measure)
        if known is not None and known.source == "analytic" and value > known.upper:
            self._margin = self._margin[0], max(self._margin[1], value / known.value - 1)
        return self._keep(architecture, measure, CostEstimate(value, value, value, MEASURES[measure].unit, "measured"))

    def memory(self, architecture: Architecture, mode: Mode) -> MemoryProfile:
        """The analytic peak and its parts; not stored."""
        return self._simulate(architecture, self.conditions, mode)

    def _simulate(self, architecture: Architecture, conditions: Conditions, mode: Mode) -> MemoryProfile:
        with FakeTensorMode(self.conditions.device_type, self._op_table):
            network = build_model(architecture)
        skeleton = architecture.skeleton
        image = (skeleton.in_channels, skeleton.image_size, skeleton.image_size)
        blocks = {block.name: network.get_submodule(f"stages.{block.name}") for block in architecture.blocks}
        with threads(self.conditions.threads):
            return simulate(network, image, conditions, mode, op_table=self._op_table, blocks=blocks)

    def largest_batch(self, architecture: Architecture, device_bytes: float, mode: Mode = "train") -> int:
        """The largest batch of an inference or a training step that fits in ``device_bytes`` of memory; 0 if none fits.

        The upper bound of the analytic peak decides. The result is a multiple of ``micro_batches`` when training.
        """
        step = self.conditions.micro_batches if mode == "train" else 1
        above = self._margin[1]

        @cache
        def bound(steps: int) -> float:
            conditions = replace(self.conditions, batch_size=steps * step, train_batch_size=steps * step)
            return self._simulate(architecture, conditions, mode).peak * (1 + above)

        fits, fails = 0, 1
        while bound(fails) <= device_bytes:
            fits = fails
            per_step = (bound(2 * fits) - bound(fits)) / fits  # memory grows nearly linearly with images
            fails = max(2 * fits, fits + int((device_bytes - bound(fits)) / per_step))
        while fails - fits > 1:
            slope = (bound(fails) - bound(fits)) / (fails - fits) if fits else math.inf
            guess = fits + int((device_bytes - bound(fits)) / slope) if fits else 0
            middle = min(max(guess, fits + 1), fails - 1)
            fits, fails = (middle, fails) if bound(middle) <= device_bytes else (fits, middle)
        return fits * step

    def _plain_time(self, plain: Architecture, measure: Measure, mode: Mode) -> CostEstimate:
        """The plain skeleton's own time, predicted or measured once; other times are relative to it."""
        known = self._predicted(plain, measure) or self._known(plain, measure)
        if known is not None:
            return known
        value = float(undisturbed(self._time([plain], mode, thorough=True))[0])
        return self._keep(plain, measure, CostEstimate(value, value, value, MEASURES[measure].unit, "measured"))

    def _time(self, architectures: Sequence[Architecture], mode: Mode, *, thorough: bool) -> npt.NDArray[np.float64]:
        return time_together(
            architectures,
            self.conditions,
            mode,
            seconds=_LONG_S if thorough else _QUICK_S,
            min_rounds=_LONG_ROUNDS if thorough else _QUICK_ROUNDS,
        )

    def _predicted(self, architecture: Architecture, measure: Measure) -> CostEstimate | None:
        return None if self.calibration is None else self.calibration.predict(architecture, measure)

    def _known(self, architecture: Architecture, measure: Measure) -> CostEstimate | None:
        return self._store.get(self._key(architecture, measure))

    def _keep(self, architecture: Architecture, measure: Measure, estimate: CostEstimate) -> CostEstimate:
        self._store.put(self._key(architecture, measure), estimate)
        return estimate

    def _key(self, architecture: Architecture, measure: Measure) -> str:
        return f"{architecture.fingerprint}/{measure}/{self._digests[measure]}"

    def _digest(self, measure: Measure) -> str:
        """A hash of everything that a figure of this measure depends on besides the architecture."""
        ignored = MEASURES[measure].ignored
        conditions = {name: value for name, value in self.conditions.to_dict().items() if name not in ignored}
        text = json.dumps({**conditions, **self._device}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
