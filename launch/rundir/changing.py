"""Changes the settings of a run that do not change what its trials are."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from launch.errors import UserError
from launch.rundir.config import RunConfig
from launch.rundir.run import open_run
from nas.search import Journal
from nas.search.names import SETTINGS
from search_spaces.errors import named, typed
from search_spaces.yamlfile import read_yaml, validate

CHANGEABLE = (
    "search.trials",
    "search.stopping",
    "search.min_epochs",
    "search.eta",
    "search.decide",
    "resources.workers",
)
"""Everything else would make earlier trials incomparable with later ones."""


def change(folder: Path, assignments: Sequence[str]) -> None:
    """Stores new values of some settings in a run's journal.

    Args:
        folder: The run's.
        assignments: ``key=value``, as for `load_run`; the keys of `CHANGEABLE`.

    Raises:
        UserError: Another key; or the run's trials do not fit the new early stopping.
        FileError: A wrong value; names all.
        RunLockedError: A driver is running on it.
        JournalError: As `open_run`.
    """
    for assignment in assignments:
        key = assignment.partition("=")[0].strip()
        if key not in CHANGEABLE:
            raise UserError(
                f"--set {typed(assignment)}: {key} cannot change after a run was begun; these can: "
                f"{', '.join(CHANGEABLE)}"
            )
    run, trials = open_run(folder)
    stored = run.config.model_dump(mode="json")
    document = read_yaml(yaml.safe_dump(stored), f"{folder}: settings")
    config = validate(document.with_overrides(assignments), RunConfig)
    before, after = (len(one.search.brackets(one.trainer.epochs)) for one in (run.config, config))
    if trials and after != before:
        raise UserError(
            f"{named(folder)}: its trials are in {before} brackets of {run.config.search.stopping}; the new settings "
            f"have {after}: leave search.stopping, min_epochs and eta"
        )
    with Journal.open(folder) as journal, journal.commit():
        settings = dict(journal.study.user_attrs[SETTINGS])
        journal.study.set_user_attr(SETTINGS, {**settings, "config": config.model_dump(mode="json")})
