"""Tables of names: how another library calls a module of ours.

A row is a pattern of our names and one of theirs, with equally many stars and braces on both sides. The first star of
ours is the first star of theirs, and so on.

- ``*`` is a number, the same on both sides: ``stages.layer*.*.branch.0`` is ``layer*.*.conv1``.
- ``{a,b}`` is one of several words, which correspond by their order: ``stem.{0,1}`` is ``{conv1,bn1}``.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import product

_BRACES = re.compile(r"\{([^}]*)\}")


def within(ours: str, theirs: str, rows: Mapping[str, str]) -> dict[str, str]:
    """Rows for the modules inside a module."""
    return {f"{ours}.{inner}": f"{theirs}.{other}" for inner, other in rows.items()}


def translator(rows: Mapping[str, str]) -> Callable[[str], str | None]:
    """A function from our name of a module to theirs; None if no row has it. The first row that matches decides.

    Raises:
        ValueError: the sides of a row do not correspond.
    """
    table = [(re.compile(ours), theirs) for row in rows.items() for ours, theirs in _alternatives(*row)]

    def translated(name: str) -> str | None:
        for pattern, theirs in table:
            if found := pattern.fullmatch(name):
                return theirs.format(*found.groups())
        return None

    return translated


def _alternatives(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """A row without its braces: (regular expression, format string) of every combination of words."""
    pieces, others = _BRACES.split(ours), _BRACES.split(theirs)  # texts and words take turns
    choices = [
        list(zip(words.split(","), other.split(","), strict=True))
        for words, other in zip(pieces[1::2], others[1::2], strict=True)
    ]
    for chosen in product(*choices):
        name = _filled(pieces, [word for word, _ in chosen])
        other = _filled(others, [word for _, word in chosen])
        if name.count("*") != other.count("*"):
            raise ValueError(f"{ours} and {theirs} have different numbers of stars")
        yield re.escape(name).replace(r"\*", r"(\d+)"), other.replace("*", "{}")


def _filled(pieces: list[str], words: list[str]) -> str:
    return "".join(text + word for text, word in zip(pieces[::2], [*words, ""], strict=True))
