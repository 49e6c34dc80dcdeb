"""Names inside messages and commands: what a reader sees is the name."""

import shlex

import pytest

from search_spaces import Problem
from search_spaces.errors import named, typed


@pytest.mark.parametrize("name", ["run.yaml", "a b", "[x]", "h\u00e9", "it's"])
def test_a_name_that_can_be_seen_is_not_changed(name: str) -> None:
    assert named(name) == name


@pytest.mark.parametrize("name", ["", " ", "a ", " a", "a\nb", "a\tb", "a\u2028b", "\x1b[31m", "a\u00a0", "b\udcff"])
def test_a_name_that_cannot_be_seen_is_quoted(name: str) -> None:
    shown = named(name)
    assert shown == repr(name) == typed(name) or shlex.split(typed(name)) == [name]
    assert shown.isprintable()
    assert shown[0] in "'\""


@pytest.mark.parametrize("name", ["a b", "a ", "$(x)", "it's", "-x;y"])
def test_a_name_in_a_command_is_one_word(name: str) -> None:
    assert shlex.split(f"nas status {typed(name)}")[2:] == [name]


def test_a_problem_shows_its_file_and_key() -> None:
    told = str(Problem("a \n", 3, "b ", "is wrong"))
    assert told == r"'a \n':3: 'b ': is wrong"
