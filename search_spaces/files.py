"""Reads spaces and architectures, by path or by the name of a preset or zoo file."""

from pathlib import Path

from search_spaces.architecture import Architecture
from search_spaces.grammar import SpaceError, parse
from search_spaces.space import SearchSpace
from search_spaces.yamlfile import Document, Problem, read_yaml, unknown

_HERE = Path(__file__).parent
_PRESETS = _HERE / "presets"
_ZOO = _HERE / "zoo"


def preset_names() -> tuple[str, ...]:
    """Names of the presets (search spaces in this package), for `load_space`."""
    return _names(_PRESETS)


def zoo_names() -> tuple[str, ...]:
    """Names of the zoo's architectures (in this package), for `load_architecture`."""
    return _names(_ZOO)


def load_space(path: Path | str) -> SearchSpace:
    """The space in a file, or the preset of that name. A zoo name gives a space of size one.

    Raises:
        SpaceError: lists all problems of the file.
    """
    return _space(_open(path))


def load_architecture(path: Path | str) -> Architecture:
    """The architecture in a file, or the zoo's architecture of that name.

    Raises:
        SpaceError: lists all problems of the file. A slot with more than one alternative is a problem.
    """
    return _architecture(_open(path))


def parse_space(text: str, source: str = "<string>") -> SearchSpace:
    """The space that ``text`` describes; problems call the text ``source``. Raises the same errors as `load_space`."""
    return _space(read_yaml(text, source))


def parse_architecture(text: str, source: str = "<string>") -> Architecture:
    """The architecture that ``text`` describes; see `parse_space`. Raises the same errors as `load_architecture`."""
    return _architecture(read_yaml(text, source))


def at_home(path: str) -> Path:
    """The path with a leading ``~`` replaced by the user's folder; unchanged if there is no such user or folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _space(document: Document) -> SearchSpace:
    return SearchSpace.from_spec(parse(document))


def _architecture(document: Document) -> Architecture:
    return Architecture.from_spec(parse(document, decided=True))


def _open(path: Path | str) -> Document:
    """A bare name is a preset or a zoo name; a name with a folder or a suffix is a path."""
    name = str(path)
    if isinstance(path, str) and name and "/" not in name and not name.endswith((".yaml", ".yml")):
        for folder in (_PRESETS, _ZOO):
            if name in _names(folder):
                return read_yaml(folder / f"{name}.yaml", name)
        if not Path(name).is_file():
            message = unknown("preset or zoo name", name, (*preset_names(), *zoo_names()))
            raise SpaceError([Problem(name, None, "", f"{message}; a path ends in .yaml")])
    return read_yaml(Path(path))


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))
