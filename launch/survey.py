"""Which proxy is enough? Trains some networks to the end and compares every epoch, and cheaper proxies, with it.

The trainings to the end are trials of the run's own journal, so a search that continues the run has them. A cheaper
proxy (less data, smaller images, a shorter schedule) trains the same networks in a run of its own inside the run's
folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import ValidationError
from rich.console import Console

from launch import session
from launch.errors import UserError
from launch.rundir import names
from launch.rundir.beginning import begin
from launch.rundir.config import RunConfig
from launch.rundir.run import Run
from nas.analysis import searched
from nas.search import Metric, TrialRecord
from search_spaces import Architecture, SearchSpace, parse_space
from trainers import Dataset, load_data


@dataclass(frozen=True)
class Proxy:
    """A cheaper training: its name (also its folder's), its configuration and its space."""

    name: str
    config: RunConfig
    space: SearchSpace


@dataclass(frozen=True)
class Curves:
    """The trainings of one proxy.

    ``values``: the metric after every epoch, [seeds, networks, epochs]. ``seconds``: core-seconds until the end of each
    epoch, mean over the trainings, [epochs]: wall time multiplied by the CPU cores of a trial.
    """

    values: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]


FULL = "full"
"""The name of the trainings to the end."""


def proxies(
    config: RunConfig,
    space: SearchSpace,
    images: int,
    *,
    shares: Sequence[float],
    sizes: Sequence[int],
    lengths: Sequence[int],
) -> list[Proxy]:
    """The cheaper proxies of a run.

    Args:
        config: The run's.
        space: The run's.
        images: Its training images.
        shares: Shares of these, above 0 and below 1.
        sizes: Sides of smaller images, in pixels.
        lengths: Numbers of epochs of shorter schedules.

    Raises:
        UserError: A proxy is not possible; names it and the reason.
    """
    wanted: list[tuple[str, str, Any, SearchSpace]] = []
    wanted += [(f"data-{share:g}", "data.train_size", max(1, round(share * images)), space) for share in shares]
    wanted += [(f"epochs-{length}", "trainer.epochs", length, space) for length in lengths]
    wanted += [(f"image-{size}", "data.image_size", size, _at_size(space, size)) for size in sizes]
    return [Proxy(name, _cheaper(config, name, key, value), of) for name, key, value, of in wanted]


def train(
    run: Run,
    dataset: Dataset,
    cheaper: Sequence[Proxy],
    console: Console,
    address: str | None,
    *,
    networks: int,
    seeds: int,
) -> dict[str, Curves]:
    """Trains what is not trained yet, in full and by every cheaper proxy. Finished trainings are never repeated.

    Returns:
        The curves by the proxies' names; `FULL` comes first. Only networks whose trainings all ended count.

    Raises:
        UserError: Fewer than three networks could be trained by every proxy.
        Interrupted, JournalError, DataError: as `session.survey`.
    """
    console.print(f"{FULL}: {networks} networks, {seeds} seeds, {run.config.trainer.epochs} epochs", soft_wrap=True)
    trials = session.survey(run.folder, dataset, console, address, networks=networks, seeds=seeds)
    chosen = {f"trial-{trial.number}": trial.architecture for trial in searched(trials)[:networks]}
    found = {FULL: _by_network(trials, {trial.number: f"trial-{trial.number}" for trial in searched(trials)})}
    for proxy in cheaper:
        folder = run.folder / names.PROXIES / proxy.name
        if not (folder / names.JOURNAL).is_file():
            begin(folder, proxy.config, proxy.space)
        console.print(f"{proxy.name}:", soft_wrap=True)
        moved = {name: _moved(one, proxy) for name, one in chosen.items()}
        again = session.survey(
            folder, load_data(proxy.config.data), console, address, networks=len(chosen), seeds=seeds, chosen=moved
        )
        found[proxy.name] = _by_network(again, {t.number: t.origin.name for t in again if t.origin.is_baseline})
    return dict(_curves(found, list(chosen), seeds, run))


def _curves(
    found: Mapping[str, Mapping[str, list[TrialRecord]]], networks: Sequence[str], seeds: int, run: Run
) -> Iterator[tuple[str, Curves]]:
    whole = [name for name in networks if all(len(of.get(name, ())) >= seeds for of in found.values())]
    if len(whole) < 3:
        raise UserError(
            f"{len(whole)} networks were trained with {seeds} seeds by every proxy; a rank correlation needs 3: "
            "train more with --networks"
        )
    cores = run.config.resources.cpus_per_trial
    for proxy, of in found.items():
        records = [[list(of[name][seed].epochs.values()) for name in whole] for seed in range(seeds)]
        values = [[[epoch.metrics[run.metric.name] for epoch in one] for one in row] for row in records]
        seconds = [[[epoch.seconds for epoch in one] for one in row] for row in records]
        yield proxy, Curves(np.array(values), cores * np.array(seconds).mean(axis=(0, 1)).cumsum())


def _by_network(trials: Sequence[TrialRecord], network: Mapping[int, str]) -> dict[str, list[TrialRecord]]:
    """Network -> its complete trainings, by seed. ``network``: the number of its first trial -> its name."""
    found: dict[str, list[TrialRecord]] = {}
    for trial in sorted(trials, key=lambda trial: trial.seed):
        first = trial.number if trial.origin.trial is None else trial.origin.trial
        if trial.status == "complete" and first in network:
            found.setdefault(network[first], []).append(trial)
    return found


def _cheaper(config: RunConfig, name: str, key: str, value: object) -> RunConfig:
    """The run's configuration with another value, without a budget: the networks are chosen already."""
    section, field = key.split(".")
    written = config.model_dump()
    written[section][field] = value
    metric: Metric = config.metric
    changed: dict[str, Any] = {"budget": {}, "objectives": (metric.name,), "calibration": None}
    try:
        return RunConfig.model_validate({**written, **changed})
    except ValidationError as error:
        what = error.errors(include_url=False, include_context=False)[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{name}: {key} {what}") from None


def _at_size(space: SearchSpace, size: int) -> SearchSpace:
    written = yaml.safe_load(space.dump())
    written["skeleton"]["image_size"] = size
    return parse_space(yaml.safe_dump(written), f"image-{size}: space")


def _moved(architecture: Architecture, proxy: Proxy) -> Architecture:
    """The same placements in a proxy's skeleton."""
    try:
        return Architecture(proxy.space.plain().skeleton, architecture.placements)
    except ValueError as error:
        raise UserError(f"{proxy.name}: {error}") from None
