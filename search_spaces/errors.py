"""Errors that a user can cause, and text that is safe on a terminal."""

from typing import ClassVar


class UserFacingError(Exception):
    """Worded for users: one or two lines that name the value, the place and the remedy. `nas` prints it and no more."""

    names_file: ClassVar[bool] = False
    """Whether each line of its text begins with a file; otherwise `nas` says who speaks."""


def printable(text: str) -> str:
    """One line in which nothing of a stranger's reaches a terminal as a control sequence."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(text.splitlines()))
