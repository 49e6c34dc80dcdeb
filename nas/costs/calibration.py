"""Predicts times from a table of what each option adds to the plain network's time, measured once on a device.

The predicted time of a network is the plain skeleton's time plus a scale times the sum of what its placements add. What
an option adds depends on its site (channels, size, stride), not on the block's name. The entries are fitted to networks
with a single placement and to random networks of the space. Other random networks, held out from that fit, give the
scale and the interval. The interval is that of split-conformal prediction (Vovk et al., 2005; Lei et al., 2018), which
has the stated coverage for any distribution of errors.
"""

import math
import os
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from nas.costs.device import fingerprint
from nas.costs.estimate import Conditions, CostEstimate
from nas.costs.measure import clock_for, time_together
from nas.costs.measures import MEASURES, Measure, Mode, Time
from nas.costs.timing import alternate, threads, undisturbed
from search_spaces import Architecture, SearchSpace, Site, Value
from search_spaces.errors import named
from search_spaces.grammar import all_choices
from search_spaces.yamlfile import FileError, Problem, read_yaml, validate, write_yaml

Progress = Callable[[int, int], object]
"""Called with (networks timed, networks to time)."""

COVERAGE = 0.95
"""Share of networks whose time must lie within the interval."""
_DRIFT = 0.05


class CalibrationError(FileError):
    """A calibration cannot be read, or was made on another device or under other conditions."""


class CalibrationDrift(UserWarning):
    """The device's speed has changed since the calibration."""


class Table(BaseModel):
    """The calibration of one measure.

    ``entries``: placement's label (`placements_of`) -> milliseconds that it adds to ``plain_ms``. ``ratios``: measured
    over predicted time of networks that the entries were not fitted to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plain_ms: float = Field(gt=0)
    scale: float = Field(gt=0)
    ratios: tuple[float, ...] = Field(min_length=1)
    entries: dict[str, float]

    def predict(self, placements: Mapping[str, int]) -> tuple[float, float, float] | None:
        """Value, lower and upper bound in milliseconds; None if a placement is not in the table."""
        if not placements.keys() <= self.entries.keys():
            return None
        if not placements:
            return self.plain_ms, self.plain_ms, self.plain_ms
        added = sum(count * self.entries[label] for label, count in placements.items())
        value = max(self.plain_ms + self.scale * added, _FLOOR * self.plain_ms)
        width = self.width
        return value, value / width, value * width

    def learn(self, placements: Mapping[str, int], measured_ms: float) -> "Table":
        """The table after one more network was measured.

        Appends the network's ratio to ``ratios``, of which the last 200 are kept. Corrects the entries of its
        placements by a Kalman filter, which takes all entries for equally uncertain, relative to their size.
        """
        predicted = self.predict(placements)
        if predicted is None or not placements:
            return self
        value = predicted[0]
        doubt = {label: (_DOUBT * abs(self.entries[label]) + _DOUBT * 0.1 * self.plain_ms) ** 2 for label in placements}
        total = sum(count**2 * doubt[label] for label, count in placements.items()) + (_NOISE * value) ** 2
        gain = (measured_ms - value) / self.scale / total
        entries = {**self.entries, **{x: self.entries[x] + n * doubt[x] * gain for x, n in placements.items()}}
        ratios = (*self.ratios, measured_ms / value)[-_KEPT:]
        return self.model_copy(update={"entries": entries, "ratios": ratios})

    @property
    def width(self) -> float:
        """The factor by which a prediction may be too high or too low."""
        errors = sorted(abs(math.log(ratio)) for ratio in self.ratios)
        rank = math.ceil((len(errors) + 1) * COVERAGE)
        return math.exp(errors[min(rank, len(errors)) - 1])


_FLOOR = 0.05
"""Smallest predicted time, as a share of the plain network's."""
_DOUBT, _NOISE = 0.1, 0.02
"""Relative doubt in an entry, and in a measurement."""
_KEPT = 200


class Protocol(BaseModel):
    """How a calibration measures.

    ``fitted``: random networks for the entries, besides one network per entry. ``held_out``: random networks for scale
    and interval. ``group``: networks that are timed together with the plain one. ``rounds``: the maximum number
    of alternating rounds of a group. After ``seconds`` per measure a group stops earlier, but not before 3 rounds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fitted: int = Field(default=24, ge=0)
    held_out: int = Field(default=39, ge=1)
    group: int = Field(default=8, ge=1)
    rounds: int = Field(default=60, ge=3)
    seconds: float = Field(default=65.0, gt=0)
    seed: int = 0


class Calibration(BaseModel):
    """The result of `calibrate` for a device, a skeleton and conditions; stored as YAML."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    format: Literal[1] = Field(default=1, alias="schema")
    device: dict[str, str]
    conditions: dict[str, str | int | bool]
    skeleton: dict[str, Any]
    protocol: Protocol
    reference_ms: float = Field(gt=0)
    """See the function `reference_ms`."""
    tables: dict[Measure, Table]

    def save(self, path: Path) -> None:
        """Writes the calibration as YAML: atomically, or directly into a device or a pipe. A link is followed."""
        text = write_yaml(self.model_dump(mode="json", by_alias=True))
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            target.write_text(text)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        written = target.with_name(f".{target.name}.{os.getpid()}")
        written.write_text(text)
        written.replace(target)

    def predict(self, architecture: Architecture, measure: Measure) -> CostEstimate | None:
        """The predicted time with its interval; None if the calibration does not cover the network or the measure."""
        table = self.tables.get(measure)
        if table is None or architecture.skeleton.model_dump(mode="json") != self.skeleton:
            return None
        found = table.predict(placements_of(architecture))
        return None if found is None else CostEstimate(*found, MEASURES[measure].unit, "predicted")

    def learn(self, architecture: Architecture, measure: Measure, measured_ms: float) -> "Calibration":
        """The calibration after one more network was measured."""
        if self.predict(architecture, measure) is None:
            return self
        table = self.tables[measure].learn(placements_of(architecture), measured_ms)
        return self.model_copy(update={"tables": {**self.tables, measure: table}})


def load_calibration(path: Path, conditions: Conditions) -> Calibration:
    """Reads a calibration that was made on this device under these conditions.

    Raises:
        CalibrationError: it cannot be read, or was made on another device or under other conditions.

    Warns:
        CalibrationDrift: the time of a fixed convolution differs by more than 5 % from that of the calibration.
    """
    calibration = validate(read_yaml(path), Calibration, error=CalibrationError)
    differing = [
        f"{name} was {there.get(name)}, is {here.get(name)}"
        for there, here in (
            (calibration.device, fingerprint(conditions.device)),
            (calibration.conditions, _kind(conditions)),
        )
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
    if differing:
        message = f"made for another device or conditions ({'; '.join(differing)}); run nas calibrate again"
        raise CalibrationError([Problem(str(path), None, "", message)])
    drift = reference_ms(conditions) / calibration.reference_ms - 1
    if abs(drift) > _DRIFT:
        warnings.warn(
            f"{named(path)}: the device's times changed by {drift:+.0%} since the calibration, so predicted times are "
            "off by as much; run nas calibrate again if this persists",
            CalibrationDrift,
            stacklevel=2,
        )
    return calibration


def calibrate(
    space: SearchSpace,
    conditions: Conditions,
    *,
    measures: Sequence[Measure] | None = None,
    protocol: Protocol | None = None,
    progress: Progress = lambda *_: None,
) -> Calibration:
    """Measures what the options of a space add to the plain network's time at each of their sites.

    Args:
        space: the skeleton and the options.
        conditions: device, batch sizes, precision, memory format, threads.
        measures: the times to calibrate; default: all.
        protocol: how many networks and rounds.
        progress: called after each group of networks.
    """
    protocol = protocol or Protocol()
    singles = list(_singles(space))
    rng = random.Random(protocol.seed)
    fitted = [*singles, *_samples(space, rng, protocol.fitted)]
    held_out = _samples(space, rng, protocol.held_out)
    networks = [*fitted, *held_out]
    timed = {name: row.told.mode for name, row in MEASURES.items() if isinstance(row.told, Time)}
    modes = {measure: timed[measure] for measure in (timed if measures is None else measures)}
    total, tables = len(networks) * len(modes), {}
    for i, (measure, mode) in enumerate(modes.items()):
        times = _time_all(
            Architecture(space.skeleton), networks, conditions, mode, protocol, i * len(networks), total, progress
        )
        tables[measure] = _fit(networks, times, len(fitted))
    return Calibration(
        device=fingerprint(conditions.device),
        conditions=_kind(conditions),
        skeleton=space.skeleton.model_dump(mode="json"),
        protocol=protocol,
        reference_ms=reference_ms(conditions),
        tables=tables,
    )


def _kind(conditions: Conditions) -> dict[str, str | int | bool]:
    """The conditions that times depend on; equal devices of a machine share a calibration."""
    return replace(conditions, averaged=False, device=conditions.device_type).to_dict()


def placements_of(architecture: Architecture) -> Counter[str]:
    """How often each placement occurs, by its label: site, option and resolved values."""
    sites = {block.name: block.sites for block in architecture.blocks}
    return Counter(
        _label(sites[block][slot], option, resolved)
        for block, slots in architecture.resolved.items()
        for slot, (option, resolved) in slots.items()
    )


def reference_ms(conditions: Conditions) -> float:
    """Milliseconds that a fixed convolution takes on the device; a change of it is drift."""
    images = torch.zeros(16, 64, 32, 32, device=conditions.device).contiguous(memory_format=torch.channels_last)
    weight = torch.zeros(64, 64, 3, 3, device=conditions.device).contiguous(memory_format=torch.channels_last)
    with threads(conditions.threads), torch.inference_mode():
        times = alternate([lambda: torch.conv2d(images, weight, padding=1)], clock_for(conditions), 0.2, 15)
    return float(undisturbed(times)[0])


def _label(site: Site, option: str, resolved: Mapping[str, Value]) -> str:
    place = f"{site.slot} {site.in_channels}>{site.out_channels} {site.kernel_size}x{site.kernel_size}"
    place += f" stride {site.stride} groups {site.groups} at {site.size}"
    return f"{place}: {option} {' '.join(f'{name}={value}' for name, value in sorted(resolved.items()))}".rstrip()


def _singles(space: SearchSpace) -> Iterable[Architecture]:
    """For every label of the space, a network with only that placement."""
    seen: set[str] = set()
    for (block, slot), offers in space.offers.items():
        for choice in all_choices(offers):
            architecture = Architecture(space.skeleton, {block: {slot: choice}})
            labels = placements_of(architecture)
            if not labels.keys() <= seen:
                seen |= labels.keys()
                yield architecture


def _samples(space: SearchSpace, rng: random.Random, count: int) -> list[Architecture]:
    return [space.sample(rng) for _ in range(count)]


def _time_all(
    plain: Architecture,
    networks: Sequence[Architecture],
    conditions: Conditions,
    mode: Mode,
    protocol: Protocol,
    done: int,
    total: int,
    progress: Progress,
) -> npt.NDArray[np.float64]:
    """Milliseconds [1 + networks]: the plain network's, then those of `networks`."""
    groups = [networks[i : i + protocol.group] for i in range(0, len(networks), protocol.group)]
    plains: list[float] = []
    ratios: list[float] = []
    for group in groups:
        times = time_together(
            [plain, *group],
            conditions,
            mode,
            seconds=protocol.seconds / len(groups),
            min_rounds=3,
            max_rounds=protocol.rounds,
        )
        plains.append(float(undisturbed(times)[0]))
        ratios.extend(np.median(times[:, 1:] / times[:, :1], axis=0))
        done += len(group)
        progress(done, total)
    plain_ms = float(np.median(plains))
    return plain_ms * np.array([1.0, *ratios])


def _fit(networks: Sequence[Architecture], times: npt.NDArray[np.float64], fitted: int) -> Table:
    """Fits the entries to the first ``fitted`` networks (least squares of relative errors), the scale to the others."""
    plain_ms, measured = float(times[0]), times[1:]
    counts = [placements_of(network) for network in networks]
    labels = sorted(set().union(*counts))
    design = np.array([[count[label] for label in labels] for count in counts], dtype=np.float64)
    weights = 1 / measured[:fitted]
    ridge = np.eye(len(labels)) * _RIDGE / plain_ms
    entries, *_ = np.linalg.lstsq(
        np.vstack([design[:fitted] * weights[:, None], ridge]),
        np.concatenate([(measured[:fitted] - plain_ms) * weights, np.zeros(len(labels))]),
        rcond=None,
    )
    # The scale applies only to the added time. If it applied to the whole time, every network except the plain one
    # would become slower or faster.
    added, found = design[fitted:] @ entries, measured[fitted:]
    spread = float(np.sum((added / found) ** 2))
    scale = float(np.sum(added * (found - plain_ms) / found**2)) / spread if spread else 1.0
    table = Table(
        plain_ms=plain_ms,
        scale=scale if scale > 0 else 1.0,
        ratios=(1.0,),
        entries=dict(zip(labels, entries.tolist(), strict=True)),
    )
    predicted = [
        (table.predict(count), time) for count, time in zip(counts[fitted:], found.tolist(), strict=True) if count
    ]
    ratios = tuple(time / estimate[0] for estimate, time in predicted if estimate is not None)
    return table.model_copy(update={"ratios": ratios or (1.0,)})


_RIDGE = 0.01
"""Ridge penalty, as a share of the plain network's time; bounds entries that no network tells apart."""
