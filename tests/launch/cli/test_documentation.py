"""README and docs/ are true: their Python runs, their files can be read, their commands parse, and quick ones run."""

import importlib
import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from launch import cli
from launch.cli.app import app
from launch.rundir.config import load_run
from launch.rundir.run import Run
from search_spaces import load_space

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and its place."""

    language: str
    text: str
    place: str


def blocks(page: Path) -> Iterator[Block]:
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    for match in found:
        line = page.read_text()[: match.start()].count("\n") + 1
        yield Block(match[1], match[2], f"{page.name}:{line}")
    for match in re.finditer(r"(?:^    \S.*\n)+", page.read_text(), re.MULTILINE):  # an indented block
        if match[0].lstrip().startswith("nas "):
            yield Block("", "".join(line[4:] for line in match[0].splitlines(keepends=True)), page.name)


BLOCKS = [block for page in PAGES for block in blocks(page)]


def of(*languages: str) -> list[Any]:
    return [pytest.param(block, id=block.place) for block in BLOCKS if block.language in languages]


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    assert {block.language for block in BLOCKS} == {"", "python", "yaml", "text"}
    assert min(len(of(language)) for language in ("", "python", "yaml", "text")) >= 3


@pytest.mark.parametrize("block", of("python"))
def test_a_snippet_of_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, block.place, "exec"), {"__name__": "snippet"})


# --- files

MINE = """
schema: 1
skeleton: {family: resnet, depth: 8, image_size: 32, num_classes: 2}
placements: {"*": {refine: [none, se]}}
"""


@pytest.mark.parametrize("block", of("yaml"))
def test_a_file_is_read(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(block.text)
    if "skeleton:" in block.text:
        assert load_space(file).size > 1
    else:
        (tmp_path / "mine.yaml").write_text(MINE)
        load_run(file)


# --- the interfaces as docs/architecture.md lists them

CALL = re.compile(r"^(?P<name>(?:search_spaces|nas|trainers)(?:\.\w+)+)(?:\((?P<parameters>[^)]*)\))?", re.MULTILINE)
INTERFACES = [match for block in BLOCKS if block.language == "text" for match in CALL.finditer(block.text)]


def resolved(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        return getattr(resolved(module), attribute)


@pytest.mark.parametrize("match", INTERFACES, ids=lambda match: match["name"])
def test_an_interface_is_as_it_is_listed(match: re.Match[str]) -> None:
    found = resolved(match["name"])
    written = [part.split("=")[0].split(":")[0].strip() for part in (match["parameters"] or "").split(",")]
    names = [name for name in written if name.isidentifier()]
    if names:
        assert callable(found)
        assert set(names) <= set(inspect.signature(found).parameters)


def test_the_listing_is_found() -> None:
    assert len(INTERFACES) > 20


# --- commands

NOT_RUN = {
    "git": "there is nothing to clone from",
    "ray": "starts machines of a cloud, or needs a cluster that runs",
    "kubectl": "needs a Kubernetes cluster",
    "sbatch": "needs SLURM",
    ".venv/bin/tensorboard": "serves until it is stopped",
    "make": "the target is looked up; these tests are one of them",
    "python": "benchmarks take minutes; their options are looked up",
}
"""What is not run, by its program, and why. Of `nas`, QUICK are run. All others are parsed, for they take long."""

QUICK = {"show", "schema", "status", "report", "export"}


@dataclass(frozen=True)
class Command:
    words: tuple[str, ...]
    place: str
    whole: bool = True
    """Within a sentence it may lack arguments: `nas resume`."""


def commands() -> Iterator[Command]:
    for block in BLOCKS:
        if block.language == "":
            for line in block.text.replace("\\\n", " ").splitlines():
                for part in line.split(" && "):
                    words = tuple(shlex.split(part, comments=True))
                    if words:
                        yield Command(words, block.place)
    for page in PAGES:
        for match in re.finditer(r"`((?:nas |make |python benchmarks/)[^`\n]*)`", page.read_text()):
            yield Command(tuple(shlex.split(match[1])), page.name, whole=False)


def is_nas(command: Command) -> bool:
    return Path(command.words[0]).name == "nas" and len(command.words) > 1


COMMANDS = sorted(set(commands()), key=lambda command: (command.place, command.words))
NAS = [
    pytest.param(command, id=f"{command.place} {' '.join(command.words)}") for command in COMMANDS if is_nas(command)
]
OTHERS = [command for command in COMMANDS if not is_nas(command)]
DATA_FILES = "data/FashionMNIST/raw/"


def parse(words: tuple[str, ...]) -> None:
    """Parses a command with the real parser, without running it; raises the parser's errors."""
    command: Any = typer.main.get_command(app)
    context, rest = None, list(words)
    while isinstance(command, TyperGroup) and rest:
        context = command.context_class(command, info_name=rest[0], parent=context)
        name, command, rest = command.resolve_command(context, rest)
    command.make_context(name, rest, parent=context)


def concrete(words: tuple[str, ...]) -> tuple[str, ...]:
    """A command without the brackets of optional parts, as in `nas status RUN [--json]`."""
    return tuple(word.strip("[]") for word in words if word != "...")


@pytest.mark.parametrize("command", NAS)
def test_a_command_is_parsed(command: Command) -> None:
    try:
        parse(concrete(command.words[1:]))
    except typer.exceptions.TyperException as error:
        if command.whole or type(error).__name__ not in ("MissingParameter", "NoArgsIsHelpError"):
            raise


@pytest.mark.parametrize("words", [("serach",), ("search", "--sett", "a=1"), ("cost", "resnet18", "--batch", "many")])
def test_what_the_parser_does_not_know_is_found(words: tuple[str, ...]) -> None:
    with pytest.raises(typer.exceptions.TyperException):
        parse(words)


RUN = [parameter for parameter in NAS if parameter.values[0].whole and parameter.values[0].words[1] in QUICK]


@pytest.mark.parametrize("command", RUN)
def test_a_quick_command_runs(
    command: Command, make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs in a folder with the files that the pages mention."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(MINE)
    words = concrete(command.words[1:])
    for word in words:
        if word.startswith("runs/") or word == "RUN":
            make_run(word)
    assert cli.run(list(words)) == cli.SUCCESS


def options_of(script: str) -> set[str]:
    """The options of a benchmark's parser, read from its source, because importing it takes seconds."""
    sources = [ROOT / script, ROOT / "benchmarks" / "_side_by_side.py"]
    return {option for path in sources for option in re.findall(r'"(--[\w-]+)"', path.read_text())}


def test_other_commands_are_known_or_left_out_for_a_reason() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in OTHERS:
        program, *rest = command.words
        if program == "nas" or program.startswith(DATA_FILES) or (program == "cd" and len(rest) == 1):
            continue
        assert program in NOT_RUN, command
        if program == "make":
            assert {word for word in rest if "=" not in word} <= targets, command
        if program == "python":
            unknown = {word for word in rest[1:] if word.startswith("--")} - options_of(rest[0])
            assert not unknown, (command, unknown)


def test_excluded_commands_exist_in_the_documentation() -> None:
    assert NOT_RUN.keys() <= {command.words[0] for command in OTHERS}
