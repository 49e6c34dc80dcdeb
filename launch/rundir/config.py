"""The run file: search space, data, objectives, budget and resources."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from nas.costs import MEASURES, read_limits
from nas.search import Metric, SearchConfig
from search_spaces import SearchSpace, load_space
from search_spaces.files import at_home
from search_spaces.yamlfile import Document, FileError, KeyPath, Problem, WrongInside, read_yaml, unknown, validate
from trainers import DataConfig, TrainerConfig, recipe_document
from trainers.datasets import SOURCES
from trainers.tasks import TASKS

_MOST_WORKERS = 100_000
_RUNS = Path(__file__).parents[1] / "runs"


class Resources(BaseModel):
    """The resources of a trial, and the cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    workers: Literal["auto"] | int = Field(
        default="auto", description="trials at once; auto: as many as fit on the cluster"
    )
    cpus_per_trial: float = Field(default=1, gt=0, le=4096, description="CPU cores; also the trial's threads")
    gpus_per_trial: float = Field(
        default=0,
        ge=0,
        le=1024,
        description="0.5: two trials share a GPU, each with half its memory; 2: each trial uses two GPUs of a node",
    )
    accelerator: str | None = Field(
        default=None, description="the kind of GPU to train on, as Ray names it (H100); left out: any"
    )
    address: str | None = Field(default=None, description="a Ray cluster (auto, host:port); left out: this machine")

    @model_validator(mode="after")
    def _possible(self) -> "Resources":
        if self.workers != "auto" and not 1 <= self.workers <= _MOST_WORKERS:
            raise WrongInside([(("workers",), f"must be auto or within 1 and {_MOST_WORKERS:,}, not {self.workers}")])
        gpus = self.gpus_per_trial
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(
                f"gpus_per_trial is {gpus:g}: a trial has a fraction of one GPU (below 1), or whole GPUs: 1, 2, ..."
            )
        if self.accelerator is not None and not gpus:
            raise ValueError(
                f"accelerator is {self.accelerator} and gpus_per_trial is 0: give each trial a GPU, or leave it out"
            )
        return self

    @property
    def world_size(self) -> int:
        """Processes that train a trial, each with a share of every batch: one per GPU, at least one."""
        return max(1, int(self.gpus_per_trial))

    @property
    def threads(self) -> int:
        """CPU threads of each of these processes."""
        return max(1, int(self.cpus_per_trial / self.world_size))


class RunConfig(BaseModel):
    """A whole run. Every key can be set from the command line: `--set trainer.epochs=3`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    space: str = Field(default="shapes", description="a preset's name, or the path of a search-space file")
    recipe: str | None = Field(default=None, description="a recipe's name or path; fills in data and trainer")
    data: DataConfig = Field(default_factory=DataConfig)
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)
    objectives: tuple[str, ...] = Field(
        default=("top1", "latency_ms"),
        min_length=1,
        max_length=4,
        validate_default=True,
        description="a metric of the data's task (top1 is maximized) and cost measures, which are minimized",
    )
    budget: dict[str, float | str] = Field(
        default_factory=dict,
        description="limits: absolute with a unit (8 GiB, 12 ms) or relative to the plain skeleton (1.25x)",
    )
    calibration: str | None = Field(
        default=None, description="a file from nas calibrate: times are predicted, and measured only near a limit"
    )
    search: SearchConfig = Field(default_factory=SearchConfig)
    resources: Resources = Field(default_factory=Resources)

    @model_validator(mode="after")
    def _rungs_fit(self) -> "RunConfig":
        first, epochs = self.search.min_epochs, self.trainer.epochs
        if self.search.stopping != "none" and first > epochs:
            wrong = f"is {first}, and must be at most trainer.epochs ({epochs}): train longer, or lower it"
            raise WrongInside([(("search", "min_epochs"), wrong)])
        return self

    @model_validator(mode="after")
    def _shares(self) -> "RunConfig":
        size, gpus = self.trainer.batch_size, self.resources.world_size
        if size < gpus:
            wrong = f"is {size} and resources.gpus_per_trial is {gpus}: every GPU needs an image of each batch"
            raise WrongInside([(("trainer", "batch_size"), wrong)])
        return self

    @property
    def measures(self) -> tuple[str, ...]:
        """The costs that the objectives or the budget name, each once."""
        return tuple(dict.fromkeys(name for name in (*self.objectives, *self.budget) if name in MEASURES))

    @property
    def metric(self) -> Metric:
        """The metric of training that is an objective; if all are costs, the task's main one, for reports."""
        row = TASKS[SOURCES[self.data.name].task]
        return next((metric for metric in row.metrics if metric.name in self.objectives), row.main)

    @field_validator("objectives")
    @classmethod
    def _objectives_known(cls, objectives: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        data = info.data.get("data")  # missing if it is wrong itself
        tasks = TASKS.values() if data is None else [TASKS[SOURCES[data.name].task]]
        metrics = [metric.name for row in tasks for metric in row.metrics]
        wrong = [name for name in objectives if name not in metrics and name not in MEASURES]
        if wrong:
            raise ValueError(unknown("objective", wrong[0], (*metrics, *MEASURES)))
        if len(set(objectives)) != len(objectives):
            raise ValueError("an objective is given twice; name each once")
        told = [name for name in objectives if name in metrics]
        if len(told) > 1:
            raise ValueError(f"{' and '.join(told)} are metrics of training; name one of them, and cost measures")
        return objectives

    @field_validator("budget")
    @classmethod
    def _limits_readable(cls, budget: dict[str, float | str]) -> dict[str, float | str]:
        wrong: list[tuple[KeyPath, str]] = []
        for name, limit in budget.items():
            try:
                read_limits({name: limit})
            except ValueError as error:
                wrong.append(((name,), str(error).removeprefix(f"budget.{name}: ")))
        if wrong:
            raise WrongInside(wrong)
        return budget


def run_names() -> tuple[str, ...]:
    """The run files that ship, for `load_run`."""
    return tuple(sorted(path.stem for path in _RUNS.glob("*.yaml")))


def load_run(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """A run file, or the shipped one with that name, with the overrides `key.path=value`.

    The file's own `data` and `trainer` keys override those of its `recipe`. A relative path (`space`, `recipe`,
    `calibration`, `data.root`) is looked up beside the file that gives it, then in the current folder; a path from the
    command line only in the current folder.

    Raises:
        FileError: names all problems of the file, its recipe and the overrides.
    """
    name = str(path)
    shipped = _RUNS / f"{name}.yaml"
    if name in run_names():
        document = read_yaml(shipped, name)
    elif "/" in name or name.endswith((".yaml", ".yml")):
        document = read_yaml(Path(name))
    else:
        raise FileError([Problem(name, None, "", f"{unknown('run file', name, run_names())}; a path ends in .yaml")])
    document = document.with_overrides(overrides)
    recipe = beside(document, ("recipe",), Path.is_file)
    if recipe is not None:
        document = document.over(recipe_document(recipe))
    config = validate(document, RunConfig)
    calibration = beside(document, ("calibration",), Path.is_file)
    return config.model_copy(update={"data": with_root(config.data, document), "calibration": calibration})


def with_root(config: DataConfig, document: Document) -> DataConfig:
    """The `data` of a document; its root is looked up beside the file that gives it."""
    root = beside(document, ("data", "root"), Path.is_dir)
    return config if root is None else config.model_copy(update={"root": root})


def beside(document: Document, key: KeyPath, is_there: Callable[[Path], bool]) -> str | None:
    """The path at `key`: beside the file that gives it if it exists there, else as it is written; ``~`` is the user's
    folder.
    """
    written = document.get(key)
    if not isinstance(written, str):
        return None
    file, path = Path(document.place(key)[0]), at_home(written)
    if file.is_file() and is_there(file.parent / path):
        return str(file.parent / path)
    return str(path) if written.startswith("~") else written


def space_of(file: str, config: RunConfig) -> SearchSpace:
    """The space that a run file names: a path beside the file, a path from here, or a preset."""
    beside = Path(file).parent / at_home(config.space)
    try:
        return load_space(beside if beside.is_file() else config.space)
    except FileError as error:
        if len(error.problems) > 1:
            raise
        (problem,) = error.problems
        raise FileError([replace(problem, file=f"{file}: space: {problem.file}")]) from error
