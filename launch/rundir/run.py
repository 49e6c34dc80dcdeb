"""A run's folder, read while it is under way or after. `launch.rundir.beginning` makes one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from launch.rundir import names
from launch.rundir.config import RunConfig
from launch.rundir.guard import check_files, check_place
from nas.costs import MEASURES
from nas.search import Figure, JournalError, Metric, Objective, TrialRecord
from nas.search.lines import damaged
from nas.search.reading import StudyRecord, read_run, read_settings
from nas.search.records import RecordError, check_plans
from search_spaces import SearchSpace, parse_space
from search_spaces.errors import named, printable

VERSION = metadata.version("attention-nas")
MEASURED = "measured:"
"""Prefix of the study's attributes with the figures measured after the search, one attribute per trial."""
LIMITS = "limits"
"""The study's attribute that holds the budget's limits in base units."""


@dataclass(frozen=True)
class Run:
    """A run, as described in its journal.

    ``metric``: the metric of training by which trials are compared. ``limits`` are the budget in base units (bytes,
    ms), ``reference`` is the reference point of the hypervolume; both are empty until a driver has started.
    ``measured``: trial -> measure -> figure measured after the search. ``crc``: of the journal, as it was read.
    """

    folder: Path
    config: RunConfig
    space: SearchSpace
    metric: Metric
    limits: Mapping[str, float] = field(default_factory=dict)
    reference: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[int, Mapping[str, Figure]] = field(default_factory=dict)
    crc: int = 0

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The metric in its direction, every cost down."""
        return tuple(
            Objective(name, "minimize") if name in MEASURES else self.metric.objective
            for name in self.config.objectives
        )

    @property
    def measures(self) -> tuple[str, ...]:
        """The costs that the objectives or the budget name, each once."""
        return self.config.measures


def open_run(folder: Path) -> tuple[Run, list[TrialRecord]]:
    """Reads a run and its trials, also while the search runs.

    The configuration and the space are those with which the run was begun; later changes of the files do not matter.
    An opened run never downloads data: its journal may be a stranger's.

    Raises:
        JournalError: there is no run, its journal is damaged or was not written by a driver, another version began it,
            or one of its links leads out of the folder.
        SpaceError: its journal holds a space that cannot be used.
    """
    check_place(folder)
    if not (folder / names.JOURNAL).is_file():  # checked first: a folder that is no run may hold any files
        raise JournalError(f"{named(folder)} holds no run: {names.JOURNAL} is not there")
    check_files(folder)
    try:
        study = read_run(folder.resolve())
    except JournalError:
        version = read_settings(folder.resolve()).get("version")
        if not isinstance(version, str) or version == VERSION:
            raise
        raise _begun_by(version, folder, "it has records that this version does not know") from None
    settings = _checked(study, "settings", _Settings, study.settings)
    config = _config(study, settings)
    run = Run(
        folder.resolve(),
        config,
        parse_space(settings.space, f"{folder}: space"),
        settings.metric or config.metric,
        _checked(study, LIMITS, _LIMITS, study.attributes.get(LIMITS, {})),
        _checked(study, "reference", _LIMITS, study.attributes.get("reference", {})),
        _measured(study),
        study.crc,
    )
    objectives = list(zip(study.metrics, study.directions, strict=True))
    if objectives != [(objective.metric, objective.direction) for objective in run.objectives]:
        raise damaged(
            study.path,
            "settings.config.objectives",
            f"{', '.join(run.config.objectives)}; the study is of {', '.join(study.metrics)}",
        )
    epochs = run.config.trainer.epochs
    for trial in study.trials:
        if trial.stop_epoch > epochs:
            raise damaged(
                study.path, f"trial {trial.number}", f"stop_epoch is {trial.stop_epoch}; trainer.epochs is {epochs}"
            )
    try:
        check_plans(study.trials, run.space)
    except RecordError as error:
        raise damaged(study.path, "what it says of", str(error)) from None
    return run, list(study.trials)


class _Settings(BaseModel):
    """The settings that `begin` stored. There was no version before 0.2."""

    model_config = ConfigDict(strict=True, extra="ignore")

    version: Annotated[str, StringConstraints(pattern=r"^[\w.+-]{1,32}$")] | None = None
    config: dict[str, Any]
    space: str
    metric: Metric | None = None
    """Journals of older versions do not have it."""


_FIGURES = TypeAdapter(dict[str, Figure], config=ConfigDict(strict=True))
_LIMITS = TypeAdapter(
    dict[Annotated[str, Field(max_length=64)], Annotated[float, Field(allow_inf_nan=False)]],
    config=ConfigDict(strict=True),
)


_UNSAID: Mapping[str, Mapping[str, Any]] = MappingProxyType({"trainer": {"ema_epochs": 0.0, "start": "papers"}})
"""Section -> key -> value in runs that were begun before there was such a key; they go on as they began."""


def _without_finalists(search: object) -> object:
    """The search's settings of an older version, which trained finalists a fixed number of times."""
    if not isinstance(search, dict):
        return search
    kept = {key: value for key, value in search.items() if key not in ("finalists", "finalist_seeds")}
    never = search.get("finalists") == 0 or search.get("finalist_seeds") == 0
    return {"decide": 0.0, **kept} if never else kept


def _config(study: StudyRecord, settings: _Settings) -> RunConfig:
    """The run's configuration, with downloads switched off.

    Raises:
        JournalError: this version cannot read it; names the version that began the run, if the journal has it.
    """
    written = dict(settings.config)
    for section, unsaid in _UNSAID.items():
        given = written.get(section, {})
        written[section] = {**unsaid, **given} if isinstance(given, dict) else given
    if "search" in written:
        written["search"] = _without_finalists(written["search"])
    try:
        config = RunConfig.model_validate_json(json.dumps(written))
    except ValidationError as error:
        unknown = [".".join(map(str, one["loc"])) for one in error.errors() if one["type"] == "extra_forbidden"]
        place, what = _first(error, "settings.config")
        if settings.version == VERSION or not (unknown or settings.version):
            raise damaged(study.path, place, what) from None
        keys = f"unknown key{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}"
        raise _begun_by(settings.version, study.path.parent, keys if unknown else f"{place}: {what}") from None
    return config.model_copy(update={"data": config.data.model_copy(update={"download": False})})


def _begun_by(version: str | None, folder: Path, why: str) -> JournalError:
    began = "another version" if version is None else f"version {printable(version)[:32]}"
    return JournalError(
        f"{named(folder)} was begun by {began} of nas, and this is {VERSION}: {printable(why)[:200]}; use that "
        "version for this run"
    )


def _measured(study: StudyRecord) -> dict[int, dict[str, Figure]]:
    found = {}
    for key, value in study.attributes.items():
        if key.startswith(MEASURED):
            number = key.removeprefix(MEASURED)
            if not (number.isdecimal() and int(number) < len(study.trials)):
                raise damaged(study.path, printable(key), "there is no such trial")
            found[int(number)] = _checked(study, key, _FIGURES, value)
    return found


def _checked(study: StudyRecord, place: str, model: Any, value: object) -> Any:  # noqa: ANN401  # what the model makes
    """The validated value. Raises a JournalError that names the wrong field."""
    validate = model.validate_python if isinstance(model, TypeAdapter) else model.model_validate
    try:
        return validate(value)
    except ValidationError as error:
        raise damaged(study.path, *_first(error, place)) from None


def _first(error: ValidationError, place: str) -> tuple[str, str]:
    """Where the first problem is, and what it is."""
    first = error.errors(include_url=False, include_context=False)[0]
    return ".".join([place, *(str(part) for part in first["loc"])]), first["msg"].removeprefix("Value error, ")
