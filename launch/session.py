"""Drives a run: searches until it is done, measures the front, writes the report."""

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import optuna
import torch
from rich.console import Console

from launch.errors import UserError
from launch.ray import capacity, cluster, connection, driver, internals, note
from launch.reports import drawn, prose, report
from launch.reports.display import Display
from launch.reports.facts import Facts, facts_of
from launch.reports.tables import measure_amount
from launch.reports.tensorboard import Board
from launch.rundir import names
from launch.rundir.checkpoints import newest_first
from launch.rundir.config import RunConfig
from launch.rundir.run import LIMITS, MEASURED, Run, open_run
from nas.analysis import GrowingFront, front_of, most_telling, progress, searched
from nas.costs import MEASURES, Budget, Calibration, CalibrationError, Conditions, CostModel, is_counted, unkept
from nas.search import Engine, Journal, SearchConfig, Summary, TrialRecord, read_trials
from search_spaces import Architecture, SearchSpace
from search_spaces.errors import named, printable, typed
from search_spaces.files import at_home
from search_spaces.yamlfile import read_yaml, validate
from trainers import Dataset, load_data, precision
from trainers.checkpoint import is_whole
from trainers.datasets import SOURCES
from trainers.tasks import TASKS

_BOARD_EVERY_S = 5.0
_MOST_DRAWN = 200
"""Trials at a time."""


def load_fitting(config: RunConfig, space: SearchSpace) -> Dataset:
    """The run's data.

    Raises:
        UserError: the space's skeleton does not fit the data; names every difference.
        DataError: as `load_data`.
    """
    dataset = load_data(config.data)
    try:
        TASKS[dataset.task].load().check(space.plain(), dataset)
    except ValueError as error:
        raise UserError(f"space {space.name or config.space} does not fit the data: {error}") from error
    return dataset


def search(folder: Path, dataset: Dataset, console: Console, address: str | None = None) -> tuple[Summary, Facts]:
    """Continues a run from its present state until it is done, and writes the report and the TensorBoard files.

    `address`: the Ray cluster, from `connection.address_of`; the address in the journal is not used.

    Returns:
        The engine's state at the end, and the facts of the report.

    Raises:
        Interrupted: the user stopped the search; another call continues it.
        JournalError: as `Journal.open`.
    """
    with Journal.open(folder) as journal:
        run, trials = open_run(folder)
        for lost in lost_checkpoints(run, trials):
            console.print(f"warning: {lost}", soft_wrap=True)
        costs = cost_model(run.config, run.folder)
        with _status(console, "measuring the plain skeleton"):
            engine = _engine(journal, run, costs, run.config.search)
        drawing = Drawing(run, engine.reference, console)
        try:
            if not engine.done:
                _train(run, journal, engine, dataset, drawing, console, address)
            _measure_front(run, journal, costs, console)
            run, trials = open_run(folder)
            facts = facts_of(run, trials)
            report.write(facts)
            drawing.finish(facts)
        finally:
            if costs.calibration is not None:
                costs.calibration.save(run.folder / names.CALIBRATION)
        if costs.calibration is not None:
            console.print(
                f"calibration with this run's measurements: {named(run.folder / names.CALIBRATION)}", soft_wrap=True
            )
        return engine.summary(), facts


def survey(
    folder: Path,
    dataset: Dataset,
    console: Console,
    address: str | None = None,
    *,
    networks: int,
    seeds: int,
    chosen: Mapping[str, Architecture] | None = None,
) -> list[TrialRecord]:
    """Trains the first networks of a run to the full length, each with every seed. The run can then be searched.

    Args:
        folder: The run's.
        dataset: Its data.
        console: For the progress.
        address: As in `search`.
        networks: How many. The sampler proposes them as in a search; its first proposals differ as much as possible.
        seeds: How many trainings of each.
        chosen: Trains these instead, by names.

    Returns:
        The run's trials.

    Raises:
        UserError: trials of the run wait at a rung: the end of this training would end them.
        Interrupted, JournalError: as `search`.
    """
    with Journal.open(folder) as journal:
        run, trials = open_run(folder)
        if any(trial.status == "active" and trial.stop_epoch < run.config.trainer.epochs for trial in trials):
            raise UserError(
                f"{named(folder)}: a search is under way, with trials that wait at a rung: finish it with "
                f"nas resume {typed(folder)}, or choose another folder with --run"
            )
        in_full = run.config.search.model_copy(update={"stopping": "none", "trials": networks})
        costs = cost_model(run.config, run.folder)
        with _status(console, "measuring the plain skeleton"):
            engine = _engine(journal, run, costs, in_full, baselines=chosen, survey=(networks, seeds - 1))
        if not engine.done:
            _train(run, journal, engine, dataset, Drawing(run, engine.reference, console), console, address)
        return read_trials(journal.study)


def _engine(
    journal: Journal,
    run: Run,
    costs: CostModel,
    config: SearchConfig,
    *,
    baselines: Mapping[str, Architecture] | None = None,
    survey: tuple[int, int] | None = None,
) -> Engine:
    """The engine of a run. Stores the budget's limits in the journal, for readers."""
    budget = Budget.parse(run.config.budget, plain=run.space.plain(), costs=costs)
    engine = Engine(
        journal,
        run.space,
        config,
        objectives=run.objectives,
        epochs=run.config.trainer.epochs,
        costs=costs,
        budget=budget,
        baselines=baselines,
        survey=survey,
        decide=partial(most_telling, objectives=run.objectives, epochs=run.config.trainer.epochs, space=run.space),
    )
    journal.study.set_user_attr(LIMITS, dict(budget.limits))
    return engine


class Drawing:
    """Writes a run's TensorBoard files during the search. The first failure prints a warning and ends the drawing."""

    def __init__(self, run: Run, reference: Mapping[str, float], console: Console) -> None:
        self._run = run
        self._console = console
        self._growing = GrowingFront(run.objectives, reference)
        self._counted: set[int] = set()
        self._board: Board | None = None
        with self._tried():
            self._board = Board(run.folder / names.TENSORBOARD, run.space, run.metric, run.measures)

    def draw(self, study: optuna.Study) -> None:
        """Adds what is new, at most `_MOST_DRAWN` trials in one call, so that the search hardly waits."""
        if self._board is None:
            return
        trials = read_trials(study, without=self._board.closed & self._counted)
        for trial in trials:
            if trial.ended and trial.number not in self._counted:
                self._counted.add(trial.number)
                if searched([trial]):
                    self._growing.add(trial)
                if not trial.epochs:
                    self._board.closed.add(trial.number)
        with self._tried():
            self._board.draw(trials, self._growing.series, _MOST_DRAWN)

    def finish(self, facts: Facts) -> None:
        """Adds the rest, the report's pictures, and the members of the front as text."""
        if self._board is None:
            return
        run, trials = facts.run, facts.trials
        with self._tried():
            self._board.draw(trials, progress(trials, run.objectives, run.reference))
            if facts.answer is not None:
                self._board.answer(facts.answer, prose.said(facts), len(trials))
            for then in drawn.earlier(facts):
                for name, figure in report.fronts(then).items():
                    self._board.picture(name, figure, len(then.trials))
            for name, figure in report.figures(facts).items():
                self._board.picture(name, figure, len(trials))
            for trial in facts.front:
                self._board.file(
                    f"front/trial-{trial.number:04d}", prose.exported(run, trial, facts.means), trial.number
                )

    @contextmanager
    def _tried(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:
            self._board = None
            folder = named(self._run.folder / names.TENSORBOARD)
            self._console.print(
                f"warning: {folder} is no longer drawn: {printable(str(error))}; the search continues", soft_wrap=True
            )


def lost_checkpoints(run: Run, trials: Sequence[TrialRecord]) -> Iterator[str]:
    """A sentence for each trial under way whose newest checkpoint is damaged or gone: epochs are repeated."""
    for trial in trials:
        if trial.status != "active" or not 0 < trial.last_epoch < trial.stop_epoch:
            continue
        folder = run.folder / names.CHECKPOINTS / str(trial.number)
        files = newest_first(folder, at_most=trial.stop_epoch)
        if not files:
            yield f"trial {trial.number} has no checkpoint in {named(folder)}: it starts anew"
        elif not is_whole(files[0]):
            then = "continues from an older one" if files[1:] else "starts anew"
            yield f"{named(files[0])} is damaged: trial {trial.number} {then}"


def check_machine(config: RunConfig, address: str | None) -> None:
    """Raises a UserError if trials or cost measurements need CPUs or a GPU that this machine lacks.

    `address`: as in `search`.
    """
    resources = config.resources
    cpus = os.cpu_count() or 1
    if address is None and resources.cpus_per_trial > cpus and resources.workers == "auto":
        raise UserError(
            f"resources.cpus_per_trial is {resources.cpus_per_trial:g}, and this machine has {cpus} CPUs: lower it, or "
            "set resources.workers, which lets trials share the CPUs"
        )
    measured = [measure for measure in config.measures if not is_counted(measure)]
    if not resources.gpus_per_trial or (address is not None and not measured):
        return
    here, wanted = internals.gpu_kind(), resources.accelerator
    if wanted is not None and measured and here != wanted:
        raise UserError(
            f"resources.accelerator is {wanted}, but {measured[0]} is measured on the machine that starts the search: "
            f"it has {here or 'no GPU'}. Start the search on a node of that kind, or leave resources.accelerator out"
        )
    if not torch.cuda.is_available():
        why = "trials run on this machine" if address is None else f"{measured[0]} is measured on this machine"
        raise UserError(
            f"resources.gpus_per_trial is {resources.gpus_per_trial:g} and {why}, which has no GPU that PyTorch can "
            "use: set it to 0, or start the search on a machine with a GPU"
        )


def check_elsewhere(config: RunConfig, space: SearchSpace, *, same_files: bool) -> None:
    """Checks a run that will start on another machine: what `nas search` checks, as far as this machine can tell.

    Data in files is checked if the other machine has the same files (`same_files`) and they are here. Limits on times
    and memory depend on the other machine's device, so only that machine checks them and the device of a calibration.

    Raises:
        UserError, DataError: as `load_fitting` and `check_budget`.
        CalibrationError: the calibration file cannot be read.
    """
    source = SOURCES[config.data.name]
    here = same_files and not config.data.download and at_home(config.data.root).is_dir()
    if here or not (source.files or source.downloads):
        load_fitting(config, space)
    if config.calibration is not None:
        validate(read_yaml(Path(config.calibration)), Calibration, error=CalibrationError)
    counted = {name: config.budget[name] for name in MEASURES if name in config.budget and is_counted(name)}
    check_budget(config.model_copy(update={"budget": counted}), space, CostModel(Conditions()))


def conditions_of(config: RunConfig) -> Conditions:
    """The conditions for a run's costs: the device, batch sizes, precision and threads of its trials.

    If a trial uses several GPUs, costs are those of one GPU with its share of the batch, without communication.
    """
    device = "cuda" if config.resources.gpus_per_trial else "cpu"
    amp, channels_last = precision(config.trainer, torch.device(device))
    return Conditions(
        device=device,
        train_batch_size=math.ceil(config.trainer.batch_size / config.resources.world_size),
        dtype="bfloat16" if amp else "float32",
        channels_last=channels_last,
        optimizer=config.trainer.optimizer,
        threads=config.resources.threads,
        averaged=config.trainer.ema_epochs > 0,
    )


def cost_model(config: RunConfig, folder: Path | None = None) -> CostModel:
    """A cost model under a run's conditions. It caches costs in the run's folder, if there is one.

    Measurements of the run improve the calibration. The improved file is saved in the run's folder, and a resumed run
    reads it from there. The file that the run names is not changed.

    Raises:
        CalibrationError: the run's calibration file cannot be read or was made on another device.
    """
    calibration = None if config.calibration is None else Path(config.calibration)
    conditions = conditions_of(config)
    if all(is_counted(measure) for measure in config.measures):
        conditions = replace(conditions, device="cpu")  # counting needs no GPU on the machine that starts the search
    if folder is None:
        return CostModel(conditions, calibration=calibration)
    bettered = folder / names.CALIBRATION
    if calibration is not None and bettered.is_file():
        calibration = bettered
    return CostModel(conditions, cache=folder / names.COSTS, calibration=calibration)


def check_budget(config: RunConfig, space: SearchSpace, costs: CostModel) -> None:
    """Raises a UserError that names every limit that no network can meet, with the costs of the cheapest networks."""
    lines = []
    for found in unkept(config.budget, space, costs):
        figures = [f"{name} {measure_amount(value, found.measure)}" for name, value in found.figures.items()]
        hint = f"; did you mean {found.limit:g}x, a multiple of the plain network's?" if found.relative_would_do else ""
        limit = measure_amount(found.limit, found.measure)
        lines.append(f"budget.{found.measure}: no network keeps {limit}: {', '.join(figures)}{hint}")
    if lines:
        raise UserError("\n".join(lines))


def _train(
    run: Run,
    journal: Journal,
    engine: Engine,
    dataset: Dataset,
    drawing: Drawing,
    console: Console,
    address: str | None,
) -> None:
    """Runs the engine's jobs and shows the progress."""
    resources = run.config.resources.model_copy(update={"address": address})
    drawn = time.monotonic()

    def on_tick() -> None:
        nonlocal drawn
        display.tick()
        if time.monotonic() - drawn > _BOARD_EVERY_S:
            drawing.draw(journal.study)
            drawn = time.monotonic()

    with ExitStack() as stack:
        with _status(console, "starting Ray and its workers"):
            stack.enter_context(connection.connected(resources))
            waits = capacity.check_fits(
                resources, cluster.nodes(), lambda: resources.address is not None and cluster.grows()
            )
        if waits is not None:
            console.print(f"warning: {waits}", soft_wrap=True)
        display = stack.enter_context(Display(console, engine.summary, run.metric, lambda: note.left(run.folder)))
        driver.run(engine, driver.Plan(run.folder, dataset, run.config.trainer, resources), on_tick)


def _measure_front(run: Run, journal: Journal, costs: CostModel, console: Console) -> None:
    """Measures the costs of the front and of the baselines. Figures that were measured before are kept."""
    trials = read_trials(journal.study)
    members = {trial.number for trial in front_of(trials, run.objectives)}
    measures = [measure for measure in run.measures if not is_counted(measure)]
    wanted = [
        trial
        for trial in trials
        if (trial.number in members or (trial.origin.is_baseline and trial.status == "complete"))
        and f"{MEASURED}{trial.number}" not in journal.study.user_attrs
    ]
    for index, trial in enumerate(wanted, 1):
        with _status(console, f"measuring the front, {index} of {len(wanted)}"):
            figures = {measure: asdict(costs.measure(trial.architecture, measure)) for measure in measures}
        journal.study.set_user_attr(f"{MEASURED}{trial.number}", figures)


def _status(console: Console, text: str) -> AbstractContextManager[object]:
    return console.status(text) if console.is_terminal else nullcontext()
