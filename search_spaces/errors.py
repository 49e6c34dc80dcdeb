"""Errors that a user can cause, and text that is safe on a terminal."""

from typing import ClassVar


class UserFacingError(Exception):
    """Says in one or two lines the value, the place and the remedy. `nas` prints the message without a traceback."""

    names_file: ClassVar[bool] = False
    """Whether each line of the text begins with a file name; otherwise `nas` puts its own name in front."""


def printable(text: str) -> str:
    """``text`` on one line, with control characters escaped: untrusted text must not control the terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(text.splitlines()))
