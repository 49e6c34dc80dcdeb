"""A run's folder: begun, found again, read while it is under way."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from launch.rundir import names
from launch.rundir.config import RunConfig
from launch.rundir.guard import check_figures, check_files, check_trials, readable
from nas.search import (
    ACCURACY,
    Journal,
    JournalError,
    Objective,
    RunLockedError,
    TrialRecord,
    read_study,
    read_trials,
    settings_of,
)
from search_spaces import SearchSpace, parse_space

MEASURED = "measured:"
"""Prefix of the study's attributes that hold what was measured of the front after the search, one a trial."""
LIMITS = "limits"
"""The study's attribute that holds the budget's limits in base units."""


@dataclass(frozen=True)
class Run:
    """What a run's journal says it is.

    ``limits`` are the budget in base units (bytes, ms), ``reference`` the corner of the hypervolume; both are empty
    until a driver has begun. ``measured``: trial -> measure -> figure, as measured after the search.
    """

    folder: Path
    config: RunConfig
    space: SearchSpace
    limits: Mapping[str, float] = field(default_factory=dict)
    reference: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Accuracy up, every cost down."""
        return tuple(Objective(name, "maximize" if name == ACCURACY else "minimize") for name in self.config.objectives)

    @property
    def measures(self) -> tuple[str, ...]:
        """The costs that the objectives or the budget name, each once."""
        return tuple(dict.fromkeys(name for name in (*self.config.objectives, *self.config.budget) if name != ACCURACY))


def begin(folder: Path, config: RunConfig, space: SearchSpace, *, overwrite: bool = False) -> Run:
    """Creates the run's folder and journal.

    Raises:
        JournalError: the folder holds a run already and `overwrite` is not set, a driver is at work on it, or it cannot
            be written.
    """
    run = Run(folder.resolve(), config, space)
    check_files(folder)
    if overwrite and (run.folder / names.JOURNAL).is_file():
        try:
            with readable(folder):
                Journal.open(run.folder).close()
        except RunLockedError:
            raise  # a run that is under way is not thrown away
        except JournalError:
            pass  # nor is one kept that nobody can go on with
        shutil.rmtree(run.folder)
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would announce the study
    settings = {"config": config.model_dump(mode="json"), "space": space.dump()}
    directions = [objective.direction for objective in run.objectives]
    Journal.create(run.folder, directions, config.objectives, settings).close()
    return run


def open_run(folder: Path) -> tuple[Run, list[TrialRecord]]:
    """A run and its trials for reading, whether or not it is under way.

    The configuration and the space are those it was begun with; files that changed since do not matter.

    Raises:
        JournalError: there is no run, its journal is damaged or says what no driver wrote, or a file of it leads out of
            the folder.
        SpaceError: its journal holds a space that cannot be used.
    """
    check_files(folder)
    with readable(folder):
        study = read_study(folder.resolve())
        settings, attributes = settings_of(study), study.user_attrs
        run = Run(
            folder.resolve(),
            RunConfig.model_validate_json(json.dumps(settings["config"])),
            parse_space(settings["space"], f"{folder}: space"),
            attributes.get(LIMITS, {}),
            attributes.get("reference", {}),
            {int(key.removeprefix(MEASURED)): value for key, value in attributes.items() if key.startswith(MEASURED)},
        )
        check_figures(run.limits, run.reference, run.measured)
        trials = read_trials(study)
        check_trials(trials)
    return run, trials
