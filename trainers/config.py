"""The `data` and `trainer` sections of a run file, and the recipes that fill them in."""

from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search_spaces.yamlfile import MAX_SEED, Document, FileError, Problem, WrongInside, read_yaml, unknown
from trainers.datasets import DataConfig

_RECIPES = Path(__file__).parent / "recipes"

Automatic: TypeAlias = bool | Literal["auto"]


class TrainerConfig(BaseModel):
    """The training settings, for short trainings in a search and for full ones. `trainers.Training` reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    epochs: int = Field(
        default=8, ge=1, le=10_000, description="length of the schedule, also for trials that are stopped early"
    )
    batch_size: int = Field(default=128, ge=1, le=65_536, description="images per step")
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.1, gt=0, le=100, description="highest learning rate, reached when the warm-up ends")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum of sgd; first beta of adamw")
    nesterov: bool = Field(default=True, description="Nesterov momentum, for sgd")
    weight_decay: float = Field(default=5e-4, ge=0, lt=1, description="for weights; never for biases and norms")
    warmup_epochs: float = Field(default=1.0, ge=0, description="linear rise before the cosine falls to zero")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ema_epochs: float = Field(
        default=1.0,
        ge=0,
        le=10_000,
        description="time constant of the moving average of the weights, in epochs; the averaged network is evaluated; "
        "0: no average",
    )
    start: Literal["quick", "papers"] = Field(
        default="quick",
        description="quick: residual branches and gates start open, for short trainings; papers: branches start at "
        "zero and gates at a half",
    )
    augment: bool = Field(default=True, description="random crops and flips that keep the labels of the data set valid")
    amp: Automatic = Field(default="auto", description="bfloat16 autocast; auto: on CUDA if the device supports it")
    channels_last: Automatic = Field(
        default="auto",
        description="memory format NHWC; auto: except in full precision on CUDA; never on the CPU for networks with "
        "strided 1x1 convolutions of fewer than 8 channels, where oneDNN's gradient is wrong",
    )
    compile: bool = Field(default=False, description="torch.compile; pays only in long trainings")
    seed: int = Field(
        default=0, ge=0, le=MAX_SEED, description="seed of the weights, the order of the images and the augmentation"
    )

    @model_validator(mode="after")
    def _phases_fit(self) -> "TrainerConfig":
        if self.warmup_epochs >= self.epochs:
            wrong = (
                f"is {self.warmup_epochs:g}, but must be below epochs ({self.epochs}): train longer or warm up for less"
            )
            raise WrongInside([(("warmup_epochs",), wrong)])
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs momentum above 0; raise momentum or set nesterov: false")
        return self


class Recipe(BaseModel):
    """A `data` section with a matching `trainer` section."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    data: DataConfig = Field(default_factory=DataConfig)
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)


def recipe_names() -> tuple[str, ...]:
    """The shipped recipes in alphabetical order."""
    return tuple(sorted(path.stem for path in _RECIPES.glob("*.yaml")))


def recipe_document(name: str) -> Document:
    """A shipped recipe by name (`shapes`), or a recipe file by a path ending in .yaml; for `validate`.

    Raises:
        FileError: no recipe has that name.
    """
    if name in recipe_names():
        return read_yaml(_RECIPES / f"{name}.yaml", name)
    if "/" in name or name.endswith((".yaml", ".yml")):
        return read_yaml(Path(name))
    raise FileError([Problem(name, None, "", f"{unknown('recipe', name, recipe_names())}; a path ends in .yaml")])
