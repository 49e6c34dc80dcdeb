"""The command `nas`.

Exit codes: 0 success, 1 the work failed, 2 the user must change something (a file, an option), 130 interrupted.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.exceptions import TyperException

from launch.errors import Failure, Interrupted, UserError
from launch.launching import app as launch_app
from launch.tables import amount, choice, print_json, print_table
from search_spaces import (
    EMPTY,
    OPTIONS,
    Architecture,
    FileError,
    SearchSpace,
    load_architecture,
    load_space,
    zoo_names,
)
from search_spaces.yamlfile import read_yaml

if TYPE_CHECKING:
    from launch.config import RunConfig
    from launch.run import Run
    from trainers import Dataset

# Everything that needs torch or ray is imported by the command that uses it: `nas --help` answers at once.

app = typer.Typer(
    name="nas",
    help="Finds where attention pays in a convolutional network, of which kind and how much, under a budget.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.add_typer(launch_app)

SUCCESS, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the run file; repeat at will.")
]
RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]


def main() -> None:
    """Runs the command line and exits with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command line; every error a user can cause becomes a line or two on standard error."""
    try:
        code = app(arguments, standalone_mode=False)
    except TyperException as error:
        return _say(f"nas: {error.format_message()} (nas --help says what there is)", USER_ERROR)
    except (FileError, UserError) as error:
        return _say(str(error), USER_ERROR)
    except Failure as error:
        return _say(f"nas: {error}", FAILED)
    except Interrupted as error:
        return _say(str(error), INTERRUPTED)
    except (KeyboardInterrupt, typer.Abort):
        return _say("nas: interrupted", INTERRUPTED)
    except BrokenPipeError:  # `nas zoo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SUCCESS
    except Exception as error:
        if isinstance(error, _worded_for_users()):
            return _say(f"nas: {error}", USER_ERROR)
        raise
    return code if isinstance(code, int) else SUCCESS


def _worded_for_users() -> tuple[type[Exception], ...]:
    """Errors of the layers below that name value, place and remedy themselves. Imported when something failed."""
    from nas.search import JournalError  # noqa: PLC0415
    from trainers import CheckpointError, DataError  # noqa: PLC0415

    return (JournalError, DataError, CheckpointError)


def _say(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _console(*, stderr: bool = False) -> Console:
    console = Console(highlight=False, stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 200  # a file or a pipe has no edge: nothing is to be folded
    return console


# --- looking --------------------------------------------------------------------------------------------------------


@app.command()
def show(
    file: Annotated[
        str, typer.Argument(metavar="SPACE|ARCHITECTURE", help="A file, or the name of a preset or a zoo entry.")
    ],
    json: Json = False,
) -> None:
    """A space's or an architecture's blocks, what can be chosen there, and how many networks that makes."""
    space = load_space(file)
    rows = [
        {
            "block": block.name,
            "channels": f"{site.in_channels} > {site.out_channels}",
            "size": site.size if site.stride == 1 else f"{site.size} > {site.out_size}",
            "slot": slot,
            "choices": " | ".join(
                choice(
                    offer.option,
                    {name: values[0] if len(values) == 1 else _any(values) for name, values in offer.params},
                    [
                        name
                        for name, values in offer.params
                        if len(values) > 1 or values[0] != _default(offer.option, name)
                    ],
                )
                for offer in offers
            ),
        }
        for block in space.blocks
        for slot, site in block.sites.items()
        if (offers := space.offers[block.name, slot])
        and not (len(offers) == 1 and offers[0].option == EMPTY[slot] and slot in ("conv2", "after"))
    ]
    if json:
        print_json(
            {"name": space.name, "size": space.size, "tie": space.tie, "decisions": len(space.groups), "sites": rows}
        )
        return
    console = _console()
    print_table(console, rows)
    how = "one architecture" if space.size == 1 else f"{space.size:,} distinct architectures"
    decisions = len(space.groups)
    console.print(f"\n{space.name or file}: {space.skeleton.family}, {how}, {decisions} decisions (tie: {space.tie})")


def _any(values: tuple[Any, ...]) -> str:
    return "[" + ", ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values) + "]"


def _default(option: str, name: str) -> object:
    return OPTIONS[option].params[name].default if option in OPTIONS else None


@app.command()
def schema(
    of: Annotated[str, typer.Argument(metavar="space|run", help="Which file's schema.")] = "space",
) -> None:
    """The JSON Schema of space files or run files, for editors that complete and check YAML."""
    from search_spaces import json_schema  # noqa: PLC0415

    if of == "space":
        print_json(json_schema())
    elif of == "run":
        from launch.config import RunConfig  # noqa: PLC0415

        print_json(RunConfig.model_json_schema())
    else:
        raise UserError(f"nas: there is no schema of {of!r}; choose space or run")


@app.command()
def cost(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="An architecture file, or the name of a zoo entry.")],
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    batch: Annotated[int, typer.Option(help="Images of an inference.")] = 32,
    train_batch: Annotated[int, typer.Option(help="Images of a training step.")] = 128,
    optimizer: Annotated[str, typer.Option(help="sgd or adamw.")] = "sgd",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    measure: Annotated[
        bool, typer.Option("--measure", help="Run it: latency, each block's share of it, memory as it is.")
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Predict times from what nas calibrate wrote.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="A device's memory (8GiB): the largest batches that fit.")
    ] = None,
    json: Json = False,
) -> None:
    """What an architecture costs: parameters, multiply-adds, memory, time; each with its interval and its source."""
    architecture = load_architecture(config)
    from launch.costing import describe, show  # noqa: PLC0415
    from nas.costs import Conditions, CostModel, read_limits  # noqa: PLC0415

    try:
        conditions = Conditions(
            device=device,
            batch_size=batch,
            train_batch_size=train_batch,
            optimizer=optimizer,  # type: ignore[arg-type]  # it is checked there
            threads=threads,
        )
    except ValueError as error:
        raise UserError(f"nas: {error}") from error
    size, relative = None, False
    if memory is not None:
        try:
            size, relative = read_limits({"peak_memory_train": memory})["peak_memory_train"]
        except ValueError as error:
            raise UserError(f"nas: --memory: {str(error).removeprefix('budget.peak_memory_train: ')}") from error
        if relative:
            raise UserError(f"nas: --memory: {memory} is a multiple; write a size, such as 8GiB")
    with _patience("measuring" if measure else "simulating a step", json=json):
        found = describe(architecture, CostModel(conditions, calibration=calibration), measure=measure, memory=size)
    if json:
        print_json({"config": config, **found})
    else:
        many = "s" if threads > 1 else ""
        title = (
            f"{config}: {batch} images an inference, {train_batch} a training step, {device}, {threads} thread{many}"
        )
        show(_console(), title, found)


@app.command()
def calibrate(
    file: Annotated[
        str,
        typer.Argument(metavar="RUN.yaml|SPACE", help="A run file, for its space and conditions, or a space alone."),
    ] = "shapes",
    overrides: Set = [],  # noqa: B006  # typer reads it
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; by default the run's own.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="By default calibration/<device>.yaml.")
    ] = None,
    json: Json = False,
) -> None:
    """Times what a space's options add on this device, once, so that searches predict times instead of measuring."""
    from dataclasses import replace  # noqa: PLC0415

    from launch.config import load_run, run_names  # noqa: PLC0415

    is_run = file in run_names() or (Path(file).is_file() and read_yaml(Path(file)).get(("skeleton",)) is None)
    config = load_run(file, overrides) if is_run else load_run("shapes", [f"space={file}", *overrides])
    space = space_of(file, config)
    from launch.costing import calibration_path, calibration_rows, run_calibration  # noqa: PLC0415
    from launch.session import conditions_of  # noqa: PLC0415

    conditions = conditions_of(config)
    if device is not None:
        try:
            conditions = replace(conditions, device=device)
        except ValueError as error:
            raise UserError(f"nas: {error}") from error
    path = out or calibration_path(conditions.device)
    found = run_calibration(space, conditions, _console(stderr=json))
    found.save(path)
    rows = calibration_rows(found)
    if json:
        print_json({"file": str(path), "conditions": conditions.to_dict(), "tables": rows})
        return
    print_table(_console(), rows)
    _console().print(f"\nwritten to {path}; use it with: nas search {file} --set calibration={path}")


@app.command()
def proxies(
    file: Annotated[str, typer.Argument(metavar="RUN|RUN.yaml", help="A run's folder, or a run file.")],
    networks: Annotated[int, typer.Option(min=3, help="Of a run file: architectures to look at.")] = 20,
    json: Json = False,
) -> None:
    """Zero-cost proxies, beside their rank correlation with parameters, multiply-adds and, of a run, accuracy."""
    from launch.config import load_run  # noqa: PLC0415
    from launch.costing import proxy_rows, sampled  # noqa: PLC0415
    from launch.run import open_run  # noqa: PLC0415
    from launch.session import load_fitting  # noqa: PLC0415
    from nas.search import ACCURACY  # noqa: PLC0415

    accuracies: list[float] | None = None
    if Path(file).is_dir():
        opened, trials = open_run(Path(file))
        done = [trial for trial in trials if trial.status == "complete" and not trial.origin.startswith("finalist")]
        if len(done) < 3:
            raise UserError(f"{file}: {len(done)} trials are trained in full; a rank correlation needs 3")
        dataset = load_fitting(opened.config, opened.space)
        architectures = [trial.architecture for trial in done]
        accuracies = [trial.epochs[trial.last_epoch].metrics[ACCURACY] for trial in done]
    else:
        config = load_run(file)
        space = space_of(file, config)
        dataset, architectures = load_fitting(config, space), sampled(space, networks)
    with _patience("looking at untrained networks", json=json):
        rows, agreement = proxy_rows(architectures, dataset, accuracies)
    if json:
        print_json({"networks": rows, "rank_correlation": agreement})
        return
    console = _console()
    print_table(console, rows)
    console.print()
    print_table(
        console,
        [
            {"rank correlation": proxy, **{name: f"{value:+.2f}" for name, value in values.items()}}
            for proxy, values in agreement.items()
        ],
    )


@app.command()
def zoo(
    table: Annotated[
        str | None, typer.Option(help="A table of the papers, such as 'AA T3'; 'all' for every one.")
    ] = None,
    json: Json = False,
) -> None:
    """The papers' networks by name; with --table, a paper's figures beside ours."""
    if table is None:
        rows = [_zoo_row(name, load_architecture(name)) for name in zoo_names()]
        if json:
            print_json(rows)
        else:
            print_table(_console(), rows)
        return
    from nas import paper_tables  # noqa: PLC0415

    names = paper_tables.tables()
    if table != "all" and table not in names:
        raise UserError(f"nas: there is no table {table!r}; choose one of {', '.join(names)}, or all")
    found = [row for name in (names if table == "all" else [table]) for row in paper_tables.rows(name)]
    if json:
        print_json([asdict(row) for row in found])
        return
    notes: dict[str, int] = {}
    console = _console()
    print_table(console, [_paper_row(row, notes) for row in found])
    for note, number in notes.items():
        console.print(f"[{number}] {note}", style="dim", markup=False, soft_wrap=True)


def _zoo_row(name: str, architecture: Architecture) -> dict[str, Any]:
    from nas.costs import count  # noqa: PLC0415

    placed = sorted({choice.option for slots in architecture.placements.values() for choice in slots.values()})
    figures = count(architecture)
    return {
        "name": name,
        "skeleton": architecture.skeleton.family,
        "attention": ", ".join(placed) or "none",
        "params": figures.params,
        "macs": figures.macs,
    }


def _paper_row(row: Any, notes: dict[str, int]) -> dict[str, Any]:  # noqa: ANN401  # nas.paper_tables.Row, imported late
    """A row; how it is counted, and why it does not fit, go to `notes`, numbered as they come."""
    numbers = [notes.setdefault(note, len(notes) + 1) for note in (row.convention, row.reason) if note]
    cells: dict[str, Any] = {"row": row.row, "zoo": row.zoo}
    figures = (
        ("params, M", row.printed_params_m, row.params_m, row.params_match),
        ("GFLOPs", row.printed_gflops, row.gflops, row.gflops_match),
    )
    for pad, (name, printed, own, match) in zip(("", " "), figures, strict=True):  # two columns of a name, told apart
        compared = printed is not None and own is not None
        cells |= {
            name: printed,
            f"ours{pad}": None if own is None else f"{own:.5f}",
            f"off by{pad}": f"{own - printed:+.5f}" if compared else None,
            f"match{pad}": match,
        }
    return cells | {"notes": ", ".join(map(str, numbers))}


# --- searching ------------------------------------------------------------------------------------------------------


@app.command()
def search(
    file: Annotated[
        str, typer.Argument(metavar="RUN.yaml", help="A run file, or the name of one that ships.")
    ] = "shapes",
    overrides: Set = [],  # noqa: B006  # typer reads it
    run: Annotated[Path | None, typer.Option(metavar="DIR", help="The run's folder; by default runs/<name>.")] = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster: auto, or host:port.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Throw away a run that the folder holds.")] = False,
    json: Json = False,
) -> None:
    """Searches for placements: trains architectures under the budget, keeps the front, reports."""
    from launch.config import load_run  # noqa: PLC0415

    assignments = [*overrides, *([f"resources.address={address}"] if address else [])]
    config = load_run(file, assignments)
    space = space_of(file, config)
    from launch.driver import address_of  # noqa: PLC0415
    from launch.run import begin  # noqa: PLC0415
    from launch.session import cost_model, load_fitting  # noqa: PLC0415

    # All that can be wrong is found before the run's folder is made.
    dataset = load_fitting(config, space)
    cost_model(config)
    folder = run or Path("runs") / Path(file).stem
    begun = begin(folder, config, space, overwrite=overwrite)
    _work(begun, dataset, folder, address_of(None, config.resources.address), json=json)


def space_of(file: str, config: "RunConfig") -> SearchSpace:
    """The space that a run file names: a path beside the file, a path from here, or a preset."""
    beside = Path(file).parent / config.space
    try:
        return load_space(beside if beside.is_file() else config.space)
    except FileError as error:
        raise UserError(f"{file}: space: {error}" if len(error.problems) == 1 else str(error)) from error


@app.command()
def resume(
    run: RunDir,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster: auto, or host:port; local: this machine alone.")
    ] = None,
    json: Json = False,
) -> None:
    """Goes on with a run after Ctrl-C, a crash or a loss of power; nothing finished is done again."""
    from launch.driver import address_of  # noqa: PLC0415
    from launch.run import open_run  # noqa: PLC0415
    from launch.session import load_fitting  # noqa: PLC0415

    opened, _ = open_run(run)
    address = address_of(opened.config.resources.address, address)
    _work(opened, load_fitting(opened.config, opened.space), run, address, json=json)


def _work(run: "Run", dataset: "Dataset", shown: Path, address: str | None, *, json: bool) -> None:
    from launch.session import search as work  # noqa: PLC0415

    console = _console(stderr=json)
    console.print(f"run {shown}  (Ctrl-C stops; nas resume {shown} goes on; tensorboard --logdir {shown}/tensorboard)")
    try:
        summary = work(run.folder, dataset, console, address)
    except Interrupted:
        raise Interrupted(f"\nstopped; what is finished is kept. Go on with: nas resume {shown}") from None
    if not summary.complete:
        reason = summary.exhausted or f"{summary.failed} failed, {sum(summary.rejected.values())} over budget"
        raise Failure(f"no trial was trained to the end ({reason}); nas report {shown} says why")
    _show_report(shown, json=json)


@app.command()
def status(run: RunDir, json: Json = False) -> None:
    """Where a run stands, also from another machine: what trains where, what waits for what, how long it may take."""
    from launch.run import open_run  # noqa: PLC0415
    from launch.status import show, status  # noqa: PLC0415

    found = status(*open_run(run))
    if json:
        print_json(found)
    else:
        show(_console(), found)


@app.command()
def report(run: RunDir, json: Json = False) -> None:
    """Draws a run's report anew from its journal, also while it is under way, and prints the front."""
    from launch.report import write  # noqa: PLC0415
    from launch.run import open_run  # noqa: PLC0415

    write(*open_run(run))
    _show_report(run, json=json)


def _show_report(folder: Path, *, json: bool) -> None:
    from launch.report import (  # noqa: PLC0415
        FINALISTS_TITLE,
        finalist_cells,
        finalist_rows,
        rows,
        spent,
        spent_text,
        verdict,
    )
    from launch.run import open_run  # noqa: PLC0415
    from nas.costs import UNITS  # noqa: PLC0415

    run, trials = open_run(folder)
    found, again = rows(run, trials), finalist_rows(run, trials)
    if json:
        print_json(
            {
                "run": str(folder),
                "objectives": list(run.config.objectives),
                "limits": dict(run.limits),
                "trials": len(trials),
                "statuses": dict(Counter(trial.status for trial in trials)),
                "verdict": verdict(run, trials),
                "rows": found,
                "finalists": again,
                "account": spent(run, trials),
            }
        )
        return
    shown = []
    for row in found:
        line = {"trial": row["trial"], "front": "*" if row["front"] else "", "from": row["origin"]}
        line["top-1"] = "-" if row["top1"] is None else f"{100 * row['top1']:.1f} %"
        for name in run.measures:
            measured = row[f"{name}_measured"]
            value = row[name] if measured is None else measured
            line[name] = "-" if value is None else amount(value, UNITS[name])
        line["placements"] = row["summary"]
        shown.append(line)
    console = _console()
    print_table(console, shown)
    if again:
        print_table(console, [finalist_cells(row) for row in again], title=f"\n{FINALISTS_TITLE}")
    console.print(f"\n{spent_text(run, trials)}\n\n{verdict(run, trials)}")
    console.print(f"report {folder}/report/report.html   export: nas export {folder} --select knee -o best.yaml")


@app.command()
def export(
    run: RunDir,
    select: Annotated[str, typer.Option(metavar="best|knee|TRIAL", help="Which trial.")] = "knee",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; by default standard output.")] = None,
) -> None:
    """Writes a trial's config, with its measured figures as comments; `nas train` takes it on."""
    from launch.report import exported  # noqa: PLC0415
    from launch.run import open_run  # noqa: PLC0415
    from nas.analysis import select as select_trial  # noqa: PLC0415

    opened, trials = open_run(run)
    try:
        trial = select_trial(trials, opened.objectives, select)
    except ValueError as error:
        raise UserError(f"nas: {error}") from error
    text = exported(opened, trial)
    if output is None:
        sys.stdout.write(text)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text)
        print(f"{output}: trial {trial.number}; train it with: nas train {output} --run {run}")


@app.command()
def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="An architecture file, or the name of a zoo entry.")],
    recipe: Annotated[str | None, typer.Option(help="A recipe's name or file: data and trainer.")] = None,
    run: Annotated[Path | None, typer.Option(help="Take data and trainer of this run instead.")] = None,
    overrides: Set = [],  # noqa: B006  # typer reads it
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for checkpoint and figures.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    json: Json = False,
) -> None:
    """Trains exactly one network in full, goes on where it was stopped, and tells the test figures at the end."""
    from launch.training import train_in_full  # noqa: PLC0415

    architecture = load_architecture(config)
    folder = output or Path("runs") / f"train-{Path(config).stem}"
    figures = train_in_full(architecture, folder, _console(stderr=json), recipe, run, overrides, device)
    if json:
        print_json(figures)


@contextmanager
def _patience(text: str, *, json: bool) -> Iterator[None]:
    """A spinner on a terminal while something takes seconds."""
    console = _console()
    if json or not console.is_terminal:
        yield
    else:
        with console.status(text):
            yield


if __name__ == "__main__":
    main()
