"""Errors that a user can cause, and text that is safe on a terminal."""

import shlex
from typing import ClassVar


class UserFacingError(Exception):
    """Says in one or two lines the value, the place and the remedy. `nas` prints the message without a traceback."""

    names_file: ClassVar[bool] = False
    """Whether each line of the text begins with a file name; otherwise `nas` puts its own name in front."""


def named(name: object) -> str:
    """A name (of a file, of a key) in a message; in quotes if it has characters that would be invisible."""
    text = str(name)
    return text if text.isprintable() and text == text.strip() != "" else repr(text)


def typed(name: object) -> str:
    """A name in a command that a message tells the user to type."""
    text = str(name)
    return shlex.quote(text) if text.isprintable() else named(text)


def printable(text: str) -> str:
    """``text`` on one line, with control characters escaped: untrusted text must not control the terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(text.splitlines()))
