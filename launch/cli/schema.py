"""`nas schema`."""

from typing import Annotated

import typer

from launch.errors import UserError
from launch.reports.tables import print_json
from launch.rundir.config import RunConfig
from search_spaces import json_schema


def schema(
    of: Annotated[str, typer.Argument(metavar="space|run", help="Which file's schema.")] = "space",
) -> None:
    """The JSON Schema of space files or run files, for editors that complete and check YAML."""

    if of == "space":
        print_json(json_schema())
    elif of == "run":
        print_json(RunConfig.model_json_schema())
    else:
        raise UserError(f"there is no schema of {of!r}; choose space or run")
