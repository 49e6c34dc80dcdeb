"""How a command ends otherwise than well."""


class UserError(ValueError):
    """Something that the user must change: a file, an option. One or two lines that name the value and the remedy."""


class Failure(RuntimeError):
    """What was asked for rightly did not work. One or two lines."""


class Interrupted(Exception):
    """The user asked to stop (Ctrl-C or SIGTERM); everything finished is in the journal."""
