"""`nas search`, `nas resume`, `nas decide`."""

from pathlib import Path
from typing import Annotated

import typer

from launch import session
from launch.cli.options import Json, RunDir, Set, new_console
from launch.cli.preparation import prepare
from launch.errors import Failure, Interrupted, UserError
from launch.files import in_words, naming
from launch.ray.connection import address_of
from launch.reports.failures import failure_lines
from launch.reports.report import print_report
from launch.rundir import names
from launch.rundir.beginning import begin, foreign
from launch.rundir.changing import change
from launch.rundir.run import Run, open_run
from launch.session import check_machine, load_fitting
from nas.analysis import account
from nas.search.config import MOST_TO_DECIDE
from search_spaces.errors import named, typed
from trainers import Dataset
from trainers.datasets import SOURCES


def search(
    file: Annotated[
        str, typer.Argument(metavar="RUN.yaml", help="A run file, or the name of one that ships.")
    ] = "shapes",
    *,
    overrides: Set,
    run: Annotated[Path | None, typer.Option(metavar="DIR", help="The run's folder; default: runs/<name>.")] = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster: auto, or host:port.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the run that the folder holds.")] = False,
    json: Json = False,
) -> None:
    """Searches for placements: trains architectures under the budget, keeps the front, reports."""

    folder, config, space, dataset, cluster = prepare(file, overrides, run, address, json=json)
    begun = begin(folder, config, space, overwrite=overwrite)
    if overwrite and (left := foreign(folder)):
        new_console(stderr=json).print(
            f"{named(folder)}: kept, because no run wrote them: {', '.join(map(named, left))}", soft_wrap=True
        )
    _work(begun, dataset, folder, cluster, json=json)


def resume(
    run: RunDir,
    *,
    overrides: Set,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster: auto, or host:port; local: only this machine.")
    ] = None,
    json: Json = False,
) -> None:
    """Continues a run after Ctrl-C, a crash or a power failure. Finished work is not repeated.

    --set changes what may change: more trials, repetitions or workers, and early stopping.
    """

    if overrides:
        change(run, overrides)
    _go_on(run, address, json=json)


def decide(
    run: RunDir,
    *,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs for it, besides those spent on it so far.")],
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster: auto, or host:port; local: only this machine.")
    ] = None,
    json: Json = False,
) -> None:
    """Trains networks of a finished search again, with new seeds, where it makes the answer more certain.

    It ends when the answer is decided, or when no training that is left could decide more.
    """

    opened, trials = open_run(run)
    length = opened.config.trainer.epochs
    if epochs < length:
        raise UserError(f"--epochs {epochs}: a training of this run takes {length}; allow at least as many")
    found = account(trials, length)
    if not found.epochs:
        raise UserError(f"{named(run)}: nothing was trained yet; search first: nas resume {typed(run)}")
    change(run, [f"search.decide={min((found.finalist_epochs + epochs) / found.epochs, MOST_TO_DECIDE)}"])
    _go_on(run, address, json=json)


def _go_on(run: Path, address: str | None, *, json: bool) -> None:
    opened, _ = open_run(run)
    address = address_of(opened.config.resources.address, address)
    check_machine(opened.config, address)
    source = SOURCES[opened.config.data.name]
    if source.files or source.downloads:  # the journal may be a stranger's: say what it makes us read
        new_console(stderr=json).print(f"reading the data in {named(opened.config.data.root)}", soft_wrap=True)
    _work(opened, load_fitting(opened.config, opened.space), run, address, json=json)


def _work(run: Run, dataset: Dataset, shown: Path, address: str | None, *, json: bool) -> None:
    console = new_console(stderr=json)
    name, board = typed(shown), typed(shown / names.TENSORBOARD)
    head = f"run {named(shown)}  (Ctrl-C stops; nas resume {name} continues; tensorboard --logdir {board})"
    try:
        console.print(head, soft_wrap=True)
        with naming(run.folder):
            summary, facts = session.search(run.folder, dataset, console, address)
    except Interrupted:
        raise Interrupted(f"\nstopped; finished work is kept. Continue with: nas resume {name}") from None
    except BrokenPipeError:  # `nas search | head`: the search would go on without anybody to see it
        raise Interrupted(
            f"stopped: nothing reads the output any more; finished work is kept. Continue with: nas resume {name}"
        ) from None
    except OSError as error:
        told = in_words(error)
        if told is None:
            raise
        raise UserError(f"{told}. Finished work is kept; continue with: nas resume {name}") from error
    if not summary.complete:
        reason = summary.exhausted or f"{summary.failed} failed, {sum(summary.rejected.values())} over budget"
        why = failure_lines(facts.failures)
        end = "" if why else f"; nas report {name} shows what was proposed"
        raise Failure("\n".join([f"no trial was trained to the end ({reason}){end}", *why]))
    print_report(new_console(), facts, shown, json=json)
