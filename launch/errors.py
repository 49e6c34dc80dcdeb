"""The errors that end a command."""

from search_spaces import UserFacingError


class UserError(UserFacingError, ValueError):
    """The user must change something that is not in a file: an option, the machine, a folder."""


class Failure(RuntimeError):
    """The request was valid, but the work failed. One or two lines."""


class Interrupted(Exception):
    """The user asked to stop (Ctrl-C or SIGTERM). All finished work is in the journal."""
