"""The command `nas`: its table of commands, and how errors are printed.

Exit codes: 0 success, 1 the work failed, 2 the user must change something (a file, an option), 130 interrupted.
"""

import gc
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from launch.errors import Failure, Interrupted
from launch.files import in_words, naming_output
from search_spaces import UserFacingError
from search_spaces.errors import printable

SUCCESS, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130


class Command(NamedTuple):
    """A command: its function, or the Typer application of its subcommands, and its line in `nas --help`."""

    module: str
    attribute: str
    summary: str


COMMANDS: Mapping[str, Command] = {
    "show": Command("launch.cli.spaces", "show", "Shows the blocks of a space or an architecture, and their choices."),
    "schema": Command("launch.cli.schema", "schema", "The JSON Schema of space files or run files, for editors."),
    "data": Command("launch.cli.data", "data", "Shows what a folder of pictures holds, what is left out, and why."),
    "cost": Command("launch.cli.costs", "cost", "Shows an architecture's parameters, multiply-adds, memory and time."),
    "calibrate": Command("launch.cli.costs", "calibrate", "Times what a space's options add on this device."),
    "proxy": Command("launch.cli.proxy", "proxy", "Measures which epoch, data and image size rank networks reliably."),
    "proxies": Command("launch.cli.costs", "proxies", "Computes zero-cost proxies and their rank correlations."),
    "zoo": Command("launch.cli.zoo", "zoo", "Lists the papers' networks; compares a paper's figures with ours."),
    "search": Command("launch.cli.search", "search", "Searches for placements under the budget."),
    "resume": Command("launch.cli.search", "resume", "Continues a run after Ctrl-C, a crash or a power failure."),
    "decide": Command("launch.cli.search", "decide", "Trains networks again where it makes the answer more certain."),
    "status": Command("launch.cli.status", "status", "Shows the state of a run, also from another machine."),
    "report": Command("launch.cli.report", "report", "Writes a run's report from its journal and prints the front."),
    "compare": Command("launch.cli.compare", "compare", "Compares runs: their settings, fronts and effects."),
    "export": Command("launch.cli.status", "export", "Writes a trial's config, with its figures as comments."),
    "train": Command("launch.cli.train", "train", "Trains exactly one network in full."),
    "explain": Command("launch.cli.explain", "explain", "Draws what the attention of a trained network looks at."),
    "launch": Command("launch.cli.launch", "app", "Writes the files that start a search on a cluster."),
}
"""All commands. A module is imported only when its command is called: `nas --help` needs neither torch nor Ray."""


def _imported(module: str) -> ModuleType:
    """Imports a module without garbage collection.

    torch and Ray make a million objects, which all stay. To search them for garbage takes a sixth of a command's start.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return import_module(module)
    finally:
        if collecting:
            gc.enable()


class _Loaded(Mapping[str, object]):
    """Name -> command, imported when it is looked up."""

    def __getitem__(self, name: str) -> object:
        row = COMMANDS[name]
        found = getattr(_imported(row.module), row.attribute)
        if isinstance(found, typer.Typer):
            return typer.main.get_command(found)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name)(found)
        return typer.main.get_command(single)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Formatter(Protocol):
    """The part that we use of the formatter in Typer's own copy of click."""

    def section(self, name: str) -> AbstractContextManager[None]:
        """Writes a title and indents the text inside the block."""

    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None:
        """Writes names and their meanings."""


class _Group(TyperGroup):
    """Looks commands up in `COMMANDS`; lists them without importing them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = cast("dict[str, Any]", _Loaded())

    def format_commands(self, ctx: object, formatter: _Formatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.summary) for name, row in COMMANDS.items()])


app = typer.Typer(
    cls=_Group,
    name="nas",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def nas() -> None:
    """Finds where attention pays in a convolutional network, which kind and how much, under a budget."""


def main() -> None:
    """Runs the command line and exits with its code."""
    closed = sys.stdout is None
    _open_streams()
    if closed:
        sys.exit(_say("nas: standard output is closed: open it, or send it to /dev/null", USER_ERROR))
    sys.stdout = naming_output(cast("io.TextIOWrapper", sys.stdout))
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:  # told already; Python would try again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _open_streams() -> None:
    """Opens the standard streams that are closed, so that no file of a run gets one of their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def run(arguments: list[str]) -> int:
    """Runs one command line. Each error that a user can cause becomes one or two lines on standard error."""
    try:
        code = app(arguments, standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        message = error.format_message()
        # A command that needs a subcommand and got none tells its usage.
        return _say(message if message.startswith("Usage: ") else f"nas: {message} (see nas --help)", USER_ERROR)
    except UserFacingError as error:
        return _say(str(error) if error.names_file else f"nas: {error}", USER_ERROR)
    except Failure as error:
        return _say(f"nas: {error}", FAILED)
    except Interrupted as error:
        return _say(str(error), INTERRUPTED)
    except (KeyboardInterrupt, typer.Abort):
        return _say("nas: interrupted", INTERRUPTED)
    except (BrokenPipeError, SystemExit) as error:
        # `nas zoo | head`: nobody reads the output any more. Typer would exit with code 1, without a word.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        return SUCCESS
    except OSError as error:
        told = in_words(error)
        if told is None:
            raise
        return _say(f"nas: {told}", USER_ERROR)
    return code if isinstance(code, int) else SUCCESS


def _say(message: str, code: int) -> int:
    with suppress(OSError):  # the exit code tells it where standard error is full
        for line in message.splitlines():
            print(printable(line), file=sys.stderr)
    return code
