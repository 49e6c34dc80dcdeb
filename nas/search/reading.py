"""Reads a run from its journal and checks every line, without Optuna.

Optuna copies a trial for every line that it applies, which readers do not need. `tests/nas/search/test_reading.py`
checks that this module and Optuna read the same.
"""

import gc
import json
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nas.search.lines import OURS, JournalError, Lines, damaged
from nas.search.metrics import METRIC, Direction, objectives_of
from nas.search.names import JOURNAL_NAME, SETTINGS, STUDY_NAME
from nas.search.records import RecordError, TrialRecord, ended, record_of
from search_spaces.errors import named

_METRICS = "study:metric_names"
"""Optuna's attribute of the study for the names of the objectives."""
_DIRECTIONS: Mapping[int, Direction] = {1: "minimize", 2: "maximize"}
_MOST_DISTRIBUTIONS, _MOST_VALUES = 10_000, 100_000


@dataclass(frozen=True)
class StudyRecord:
    """A run's study: its settings, its other attributes, and its trials by number. ``crc``: the journal's CRC-32."""

    path: Path
    settings: Mapping[str, Any]
    attributes: Mapping[str, Any]
    metrics: Sequence[str]
    directions: Sequence[Direction]
    trials: Sequence[TrialRecord]
    crc: int


def read_run(run: Path) -> StudyRecord:
    """The present state of a run; a driver may be writing to it. Writes nothing; ignores an incomplete last line.

    Raises:
        JournalError: There is no run, its journal is damaged, or it has a value that no driver writes. The message
            names the line or the trial, and the field.
    """
    path = run / JOURNAL_NAME
    if not path.is_file():
        raise JournalError(f"{named(run)} holds no run: {JOURNAL_NAME} is not there")
    with uncollected():
        return _read(run, path)


def read_settings(run: Path) -> Mapping[str, Any]:
    """The settings of a run whose records `read_run` refuses; empty if the journal's lines are damaged."""
    with suppress(JournalError):
        settings = _replay(run / JOURNAL_NAME).attributes.get(SETTINGS)
        if isinstance(settings, dict):
            return settings
    return {}


def _read(run: Path, path: Path) -> StudyRecord:
    study = _replay(path)
    settings = study.attributes.get(SETTINGS)
    if not isinstance(settings, dict):
        raise JournalError(
            f"{named(run)} holds no run: its journal has no settings; its driver died while creating it, or "
            "another program wrote it"
        )
    metrics = study.system.get(_METRICS, [""] * len(study.directions))
    if not (isinstance(metrics, list) and all(isinstance(name, str) for name in metrics)) or len(metrics) != len(
        study.directions
    ):
        raise damaged(
            path, _METRICS, f"{metrics!r}: there must be a name for each of {len(study.directions)} objectives"
        )
    try:
        objectives = objectives_of(metrics, study.directions, settings)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join([SETTINGS, METRIC, *(str(part) for part in first["loc"])])
        raise damaged(path, place, first["msg"].removeprefix("Value error, ")) from None
    try:
        trials = [record_of(trial, objectives) for trial in study.trials]
    except RecordError as error:
        raise damaged(path, "what it says of", str(error)) from None
    return StudyRecord(path, settings, study.attributes, metrics, study.directions, trials, study.crc)


@contextmanager
def uncollected() -> Iterator[None]:
    """Switches Python's garbage collector off in the block, or, as a decorator, in the function.

    Reading a run creates hundreds of thousands of objects, none of them garbage. The collector would scan all of them
    again and again, which took half of the time. Objects that a finished call leaves are freed without it.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# --- the format


def _a_time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


_Time: TypeAlias = Annotated[str, AfterValidator(_a_time)]
_State: TypeAlias = Literal[0, 1, 2, 3, 4]
_Attribute: TypeAlias = Annotated[dict[str, Any], Field(min_length=1, max_length=1)]
_Number: TypeAlias = Annotated[int, Field(ge=0)]


_EMPTY: Any = Field(default_factory=dict)


class _Line(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    worker_id: str


class _CreateStudy(_Line):
    op_code: Literal[0]
    study_name: str
    directions: Annotated[list[Literal[1, 2]], Field(min_length=1)]


class _DeleteStudy(_Line):
    op_code: Literal[1]
    study_id: _Number


class _StudyAttribute(_Line):
    op_code: Literal[2]
    study_id: _Number
    user_attr: _Attribute


class _StudySystemAttribute(_Line):
    op_code: Literal[3]
    study_id: _Number
    system_attr: _Attribute


class _CreateTrial(_Line):
    op_code: Literal[4]
    study_id: _Number
    datetime_start: _Time | None
    datetime_complete: _Time | None = None
    state: _State = 0
    value: float | None = None
    values: list[float] | None = None
    distributions: dict[str, str] = _EMPTY
    params: dict[str, float] = _EMPTY
    user_attrs: dict[str, Any] = _EMPTY
    system_attrs: dict[str, Any] = _EMPTY
    intermediate_values: dict[str, float | None] = _EMPTY


class _Parameter(_Line):
    op_code: Literal[5]
    trial_id: _Number
    param_name: str
    param_value_internal: float
    distribution: str


class _StateAndValues(_Line):
    op_code: Literal[6]
    trial_id: _Number
    state: _State
    values: list[float] | None
    datetime_start: _Time | None = None
    datetime_complete: _Time | None = None


class _IntermediateValue(_Line):
    op_code: Literal[7]
    trial_id: _Number
    step: int
    intermediate_value: float | None


class _TrialAttribute(_Line):
    op_code: Literal[8]
    trial_id: _Number
    user_attr: _Attribute


class _TrialSystemAttribute(_Line):
    op_code: Literal[9]
    trial_id: _Number
    system_attr: _Attribute


class _Discard(_Line):
    op_code: Literal[10]


_LINE: TypeAdapter[Any] = TypeAdapter(
    Annotated[
        _CreateStudy
        | _DeleteStudy
        | _StudyAttribute
        | _StudySystemAttribute
        | _CreateTrial
        | _Parameter
        | _StateAndValues
        | _IntermediateValue
        | _TrialAttribute
        | _TrialSystemAttribute
        | _Discard,
        Field(discriminator="op_code"),
    ]
)


@dataclass
class _Trial:
    """See `nas.search.records.StoredTrial`."""

    number: int
    state: int
    values: list[float] | None
    params: dict[str, Any]
    user_attrs: dict[str, Any]


@dataclass
class _Study:
    """The study after all lines read so far."""

    attributes: dict[str, Any] = field(default_factory=dict)
    system: dict[str, Any] = field(default_factory=dict)
    directions: list[Direction] = field(default_factory=list)
    trials: list[_Trial] = field(default_factory=list)
    crc: int = 0


class _Distribution(Protocol):
    """The part of Optuna's distributions that is used here."""

    def to_external_repr(self, param_value_in_internal_repr: float) -> Any:  # noqa: ANN401  # whatever it holds
        """The value that Optuna stores as this number."""


@dataclass(frozen=True)
class _Choices:
    """Optuna's `CategoricalDistribution`: the number is an index of the choices."""

    choices: Sequence[Any]

    def to_external_repr(self, param_value_in_internal_repr: float) -> Any:  # noqa: ANN401  # whatever it holds
        return self.choices[int(param_value_in_internal_repr)]


class _Values(dict[tuple[str, float], Any]):
    """(text of a distribution, number) -> the value that Optuna stores as that number; cached.

    A lookup raises ValueError if the text is not a distribution, or if the number is outside it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._parsed: dict[str, tuple[_Distribution, float, float]] = {}

    def __missing__(self, key: tuple[str, float]) -> Any:  # noqa: ANN401  # whatever the distribution holds
        text, internal = key
        found = self._parsed.get(text)
        if found is None:
            try:
                found = _parsed(text)
            except Exception as error:
                raise ValueError(f"{text!r:.80} is not a distribution") from error
            if len(self._parsed) < _MOST_DISTRIBUTIONS:
                self._parsed[text] = found
        distribution, low, high = found
        if not low <= internal <= high:
            raise ValueError(f"{internal} is not between {low:g} and {high:g}")
        value = distribution.to_external_repr(internal)
        if len(self) < _MOST_VALUES:
            self[key] = value
        return value


def _parsed(text: str) -> tuple[_Distribution, float, float]:
    """A distribution with its lowest and highest number; raises Optuna's errors if the text is not a distribution."""
    match json.loads(text):
        # The only kind that this program writes. Others need Optuna, which takes long to import.
        case {"name": "CategoricalDistribution", "attributes": {"choices": [_, *_] as choices, **others}} if (
            not others and all(choice is None or isinstance(choice, bool | int | float | str) for choice in choices)
        ):
            return _Choices(tuple(choices)), 0.0, len(choices) - 1.0
    distribution: Any = pkgutil.resolve_name("optuna.distributions:json_to_distribution")(text)
    if hasattr(distribution, "choices"):
        return distribution, 0.0, len(distribution.choices) - 1.0
    return distribution, float(distribution.low), float(distribution.high)


def _replay(path: Path) -> _Study:
    """The study that the lines describe.

    Raises:
        JournalError: a line is damaged, is not in Optuna's format, or refers to something that does not exist.
    """
    lines, study = Lines(path), _Study()
    ours: int | None = None  # the study's id
    studies = 0
    trials: list[_Trial | None] = []  # by Optuna's id; None for trials of other studies
    values = _Values()

    def wrong(what: str) -> JournalError:
        return damaged(path, f"line {lines.number}", what)

    for raw in lines.new():
        try:
            line = _LINE.validate_python(raw)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            # The union puts the operation's number before the field.
            place = ".".join(str(part) for part in first["loc"][1:]) or "op_code"
            raise wrong(f"{place}: {first['msg']}") from None
        match line:
            # First, because most lines are of these kinds.
            case _TrialAttribute() | _StateAndValues() | _Parameter() | _IntermediateValue() | _TrialSystemAttribute():
                number = line.trial_id
                if number >= len(trials):
                    raise wrong(f"trial_id: there is no trial {number}")
                known = trials[number]
                if known is None:
                    continue
                if ended(known.state):
                    if line.worker_id == OURS:
                        raise wrong(f"trial_id: trial {number} has ended, but this line changes it")
                    continue  # Optuna also ignores such lines from a dashboard
                match line:
                    case _TrialAttribute():
                        known.user_attrs.update(line.user_attr)
                    case _StateAndValues():
                        known.state = line.state
                        if line.values is not None:
                            known.values = line.values
                    case _Parameter():
                        try:
                            known.params[line.param_name] = values[line.distribution, line.param_value_internal]
                        except ValueError as error:
                            raise wrong(f"param_value_internal: {error}") from None
            case _CreateStudy():
                if line.study_name == STUDY_NAME:
                    if ours is not None:
                        raise wrong(f"the study {STUDY_NAME} is created a second time")
                    ours = studies
                    study.directions = [_DIRECTIONS[direction] for direction in line.directions]
                studies += 1
            case _DeleteStudy(study_id=deleted):
                if deleted == ours:
                    raise wrong("the run's study is deleted")
            case _StudyAttribute(study_id=of) if of == ours:
                study.attributes.update(line.user_attr)
            case _StudySystemAttribute(study_id=of) if of == ours:
                study.system.update(line.system_attr)
            case _CreateTrial(study_id=of):
                if of >= studies:
                    raise wrong(f"study_id: there is no study {of}")
                if of != ours:
                    trials.append(None)
                    continue
                try:
                    params = {
                        name: values[line.distributions[name], internal] for name, internal in line.params.items()
                    }
                except (KeyError, ValueError) as error:
                    raise wrong(f"params: {error}") from None
                told = line.values if line.values is not None or line.value is None else [line.value]
                trial = _Trial(len(study.trials), line.state, told, params, line.user_attrs)
                study.trials.append(trial)
                trials.append(trial)
            case _StudyAttribute(study_id=of) | _StudySystemAttribute(study_id=of):
                if of >= studies:
                    raise wrong(f"study_id: there is no study {of}")
    if ours is None and lines.number:
        raise JournalError(f"{named(path)} is not a journal of this program: it holds no study {STUDY_NAME!r}")
    study.crc = lines.crc
    return study
