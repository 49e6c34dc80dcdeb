"""How a command ends otherwise than well."""

from search_spaces import UserFacingError


class UserError(UserFacingError, ValueError):
    """Something that the user must change and no file says: an option, the machine, a folder."""


class Failure(RuntimeError):
    """What was asked for rightly did not work. One or two lines."""


class Interrupted(Exception):
    """The user asked to stop (Ctrl-C or SIGTERM); everything finished is in the journal."""
