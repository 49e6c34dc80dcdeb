"""`nas cost`, `nas calibrate`, `nas proxies`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from launch.cli.options import Json, Set, new_console, patience
from launch.errors import UserError
from launch.files import check_file, naming
from launch.reports import costs as reports
from launch.reports.tables import print_json, print_table
from launch.rundir.config import load_run, run_names, space_of
from launch.rundir.run import open_run
from launch.session import conditions_of, load_fitting
from nas.costs import Conditions, CostModel, read_limits
from nas.costs.device import check_present
from search_spaces import load_architecture
from search_spaces.errors import named, typed
from search_spaces.yamlfile import read_yaml
from trainers import TrainerConfig
from trainers.tasks import TASKS
from trainers.tasks.classification import CLASSIFICATION


def cost(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="An architecture file, or the name of a zoo entry.")],
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    batch: Annotated[int, typer.Option(help="Images per inference batch.")] = 32,
    train_batch: Annotated[int, typer.Option(help="Images per training step.")] = 128,
    optimizer: Annotated[str, typer.Option(help="sgd or adamw.")] = "sgd",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    measure: Annotated[
        bool, typer.Option("--measure", help="Run the network: measure latency, each block's share of it, and memory.")
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Predict times from a file that nas calibrate wrote.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="A device's memory (8GiB); adds the largest batches that fit.")
    ] = None,
    json: Json = False,
) -> None:
    """Shows an architecture's parameters, multiply-adds, memory and time, each with its interval and source."""
    architecture = load_architecture(config)

    try:
        conditions = Conditions(
            device=device,
            batch_size=batch,
            train_batch_size=train_batch,
            optimizer=optimizer,  # type: ignore[arg-type]  # Conditions checks it
            threads=threads,
            averaged=TrainerConfig().ema_epochs > 0,
        )
        if measure:
            check_present(device)
    except ValueError as error:
        raise UserError(f"{error}") from error
    size, relative = None, False
    if memory is not None:
        try:
            size, relative = read_limits({"peak_memory_train": memory})["peak_memory_train"]
        except ValueError as error:
            raise UserError(f"--memory: {str(error).removeprefix('budget.peak_memory_train: ')}") from error
        if relative:
            raise UserError(f"--memory: {memory} is a multiple; write a size, such as 8GiB")
    with patience("measuring" if measure else "simulating a step", json=json):
        model = CostModel(conditions, calibration=calibration)
        try:
            found = reports.describe(architecture, model, measure=measure, memory=size)
        except ValueError as error:  # from the first pass, which needs no data
            if train_batch > 1:
                raise UserError(f"{named(config)}: {error}") from error
            raise UserError(
                f"--train-batch 1: a norm of {named(config)} gets one value per channel, which has no variance; "
                "give --train-batch 2 or more"
            ) from error
    if json:
        print_json({"config": config, **found})
    else:
        many = "s" if threads > 1 else ""
        title = (
            f"{named(config)}: {batch} images per inference, {train_batch} per training step, {device}, "
            f"{threads} thread{many}"
        )
        reports.show(new_console(), title, found)


def calibrate(
    file: Annotated[
        str,
        typer.Argument(metavar="RUN.yaml|SPACE", help="A run file (gives space and conditions), or a space."),
    ] = "shapes",
    *,
    overrides: Set,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: the run's.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Default: calibration/<device>.yaml.")
    ] = None,
    json: Json = False,
) -> None:
    """Times what a space's options add on this device. Searches then predict times instead of measuring them."""

    is_run = file in run_names() or (Path(file).is_file() and read_yaml(Path(file)).get(("skeleton",)) is None)
    config = load_run(file, overrides) if is_run else load_run("shapes", [f"space={file}", *overrides])
    space = space_of(file, config)

    conditions = conditions_of(config)
    if device is not None:
        try:
            conditions = replace(conditions, device=device)
        except ValueError as error:
            raise UserError(f"{error}") from error
    try:
        check_present(conditions.device)
    except ValueError as error:
        raise UserError(f"{error}; a calibration is measured on the device itself") from error
    path = out or reports.calibration_path(conditions.device)
    check_file(path)
    found = reports.run_calibration(space, conditions, new_console(stderr=json))
    with naming(path):
        found.save(path)
    rows = reports.calibration_rows(found)
    if json:
        print_json({"file": str(path), "conditions": conditions.to_dict(), "tables": rows})
        return
    print_table(new_console(), rows)
    new_console().print(
        f"\nwritten to {named(path)}; use it with: nas search {typed(file)} --set {typed(f'calibration={path}')}"
    )


def proxies(
    file: Annotated[str, typer.Argument(metavar="RUN|RUN.yaml", help="A run's folder, or a run file.")],
    networks: Annotated[int, typer.Option(min=3, help="Architectures to examine, for a run file.")] = 20,
    json: Json = False,
) -> None:
    """Computes zero-cost proxies and their rank correlations with parameters, multiply-adds and a run's accuracy."""

    accuracies: list[float] | None = None
    if Path(file).is_dir():
        opened, trials = open_run(Path(file))
        done = [trial for trial in trials if trial.status == "complete" and not trial.origin.is_finalist]
        if len(done) < 3:
            raise UserError(f"{named(file)}: {len(done)} trials are trained in full; a rank correlation needs 3")
        dataset = load_fitting(opened.config, opened.space)
        architectures = [trial.architecture for trial in done]
        accuracies = [trial.epochs[trial.last_epoch].metrics[opened.metric.name] for trial in done]
    else:
        config = load_run(file)
        space = space_of(file, config)
        dataset, architectures = load_fitting(config, space), reports.sampled(space, networks)
    if TASKS[dataset.task].load() is not CLASSIFICATION:
        raise UserError(
            f"{file}: {dataset.name} is for {dataset.task}; the proxies are computed from class labels, so they are "
            "for classification alone"
        )
    with patience("looking at untrained networks", json=json):
        rows, agreement = reports.proxy_rows(architectures, dataset, accuracies)
    if json:
        print_json({"networks": rows, "rank_correlation": agreement})
        return
    console = new_console()
    print_table(console, rows)
    console.print()
    print_table(
        console,
        [
            {"rank correlation": proxy, **{name: f"{value:+.2f}" for name, value in values.items()}}
            for proxy, values in agreement.items()
        ],
    )
