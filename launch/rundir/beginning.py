"""Creates a run's folder and journal, and removes the files of an earlier run."""

import shutil
from pathlib import Path

import optuna

from launch.rundir import names
from launch.rundir.config import RunConfig
from launch.rundir.guard import check_files
from launch.rundir.run import VERSION, Run
from nas.search import Journal, JournalError, is_journal, locked
from nas.search.metrics import METRIC
from search_spaces import SearchSpace
from search_spaces.errors import named


def begin(folder: Path, config: RunConfig, space: SearchSpace, *, overwrite: bool = False) -> Run:
    """Creates the run's folder and journal.

    Args:
        folder: The run's folder; created if it is missing.
        config: The run's configuration. Its paths are stored as absolute paths.
        space: The search space.
        overwrite: Remove the files of a run in the folder; other files stay.

    Raises:
        JournalError: the folder already holds a run and `overwrite` is not set, a driver is running on it, it cannot be
            written, or its journal is not one of this program.
    """
    run = Run(folder.resolve(), _with_absolute_paths(config), space, config.metric)
    check_files(folder)
    if overwrite:
        _remove(run.folder)
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would announce the study
    settings = {
        "version": VERSION,
        "config": run.config.model_dump(mode="json"),
        "space": space.dump(),
        METRIC: run.metric.model_dump(mode="json"),
    }
    directions = [objective.direction for objective in run.objectives]
    Journal.create(run.folder, directions, config.objectives, settings).close()
    return run


def _remove(folder: Path) -> None:
    """Removes the files that a run has written.

    Raises:
        RunLockedError: a driver is running on it.
        JournalError: the journal in the folder is not one of this program, or something cannot be removed.
    """
    journal = folder / names.JOURNAL
    if not journal.is_file():
        return
    if not is_journal(journal):
        raise JournalError(
            f"{named(journal)} is not a journal of this program, so --overwrite removes nothing: move it "
            "away, or choose another folder"
        )
    with locked(folder):  # never remove a running run
        for name in names.WRITTEN:
            path = folder / name
            if name == names.LOCK or not (path.exists() or path.is_symlink()):
                continue
            try:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except OSError as error:
                raise JournalError(f"cannot remove {named(path)}: {error.strerror or error}") from error


def foreign(folder: Path) -> list[str]:
    """Names of the entries of a run's folder that no run writes, in alphabetical order."""
    return sorted(entry.name for entry in folder.iterdir() if entry.name not in names.WRITTEN)


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """The configuration with absolute paths, so that the run can be resumed from any folder."""
    data = config.data.model_copy(update={"root": str(Path(config.data.root).absolute())})
    calibration = None if config.calibration is None else str(Path(config.calibration).absolute())
    return config.model_copy(update={"data": data, "calibration": calibration})
