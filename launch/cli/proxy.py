"""`nas proxy`."""

from pathlib import Path
from typing import Annotated

import typer

from launch import survey
from launch.cli.options import Json, Set, new_console
from launch.cli.preparation import prepare
from launch.errors import Interrupted, UserError
from launch.ray.connection import address_of
from launch.reports.agreement import agreement_cells, agreement_rows
from launch.reports.tables import print_json, print_table
from launch.rundir.beginning import begin
from launch.rundir.run import open_run
from launch.session import check_machine, load_fitting
from search_spaces.errors import named, typed


def proxy(
    file: Annotated[
        str, typer.Argument(metavar="RUN.yaml|RUN", help="A run file, or the folder of a run to continue.")
    ] = "shapes",
    *,
    overrides: Set,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder, for a run file; default: runs/<name>.")
    ] = None,
    networks: Annotated[int, typer.Option(min=3, help="Networks to train.")] = 12,
    seeds: Annotated[int, typer.Option(min=2, help="Trainings of each network.")] = 2,
    data: Annotated[
        list[float], typer.Option(default_factory=list, show_default=False, help="Also a share of the training images.")
    ],
    image: Annotated[
        list[int], typer.Option(default_factory=list, show_default=False, help="Also images of this side, in pixels.")
    ],
    epochs: Annotated[
        list[int], typer.Option(default_factory=list, show_default=False, help="Also a schedule of so many epochs.")
    ],
    address: Annotated[str | None, typer.Option(help="A Ray cluster: auto, or host:port.")] = None,
    json: Json = False,
) -> None:
    """Which proxy is enough? Trains some networks in full and says which epoch, data and image size rank them alike.

    The trainings count for the search: nas resume continues the run with them.
    """
    folder = Path(file)
    if wrong := [share for share in data if not 0 < share < 1]:
        raise UserError(f"--data {wrong[0]:g}: it must be above 0 and below 1, a share of the training images")
    if not folder.is_dir():
        folder, config, space, dataset, cluster = prepare(file, overrides, run, address, json=json)
        cheaper = survey.proxies(config, space, len(dataset.train), shares=data, sizes=image, lengths=epochs)
        opened = begin(folder, config, space)
    else:
        if overrides or run is not None:
            raise UserError(
                f"{named(file)} is the folder of a run, whose settings are fixed: leave out --set and --run"
            )
        opened, _ = open_run(folder)
        cluster = address_of(opened.config.resources.address, address)
        check_machine(opened.config, cluster)
        dataset = load_fitting(opened.config, opened.space)
        cheaper = survey.proxies(
            opened.config, opened.space, len(dataset.train), shares=data, sizes=image, lengths=epochs
        )
    console = new_console(stderr=json)
    name = typed(folder)
    try:
        curves = survey.train(opened, dataset, cheaper, console, cluster, networks=networks, seeds=seeds)
    except Interrupted:
        raise Interrupted(f"\nstopped; finished work is kept. Continue with: nas proxy {name}") from None
    rows, advice = agreement_rows(curves)
    if json:
        print_json({"run": str(folder), "epochs": rows, "advice": advice})
        return
    print_table(
        new_console(),
        [agreement_cells(row, opened.metric) for row in rows],
        title="Rank correlation of each epoch with the end of full trainings",
    )
    for line in [*advice, f"The trainings count for the search: nas resume {name}, with what is recommended"]:
        new_console().print(line, soft_wrap=True)
