"""The `data` and `trainer` sections of a run file, and the recipes that fill them in."""

from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search_spaces.yamlfile import MAX_SEED, Document, FileError, Problem, WrongInside, read_yaml, unknown
from trainers.datasets import DataConfig

_RECIPES = Path(__file__).parent / "recipes"

Automatic: TypeAlias = bool | Literal["auto"]


class TrainerConfig(BaseModel):
    """How a network is trained, briefly in a search or in full. `trainers.Training` reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    epochs: int = Field(default=8, ge=1, le=10_000, description="the schedule's length, also where a trial ends early")
    batch_size: int = Field(default=128, ge=1, le=65_536, description="images in a step")
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.1, gt=0, le=100, description="highest learning rate, reached when the warm-up ends")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of sgd; adamw's first beta")
    nesterov: bool = Field(default=True, description="look-ahead momentum, for sgd")
    weight_decay: float = Field(default=5e-4, ge=0, lt=1, description="on weights; never on biases and norms")
    warmup_epochs: float = Field(default=1.0, ge=0, description="linear rise before the cosine falls to zero")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augment: bool = Field(default=True, description="random crops and flips, those that keep this set's labels true")
    amp: Automatic = Field(default="auto", description="bfloat16 autocast; auto: on CUDA where the device computes it")
    channels_last: Automatic = Field(
        default="auto", description="memory format NHWC; auto: always, bar full precision CUDA"
    )
    compile: bool = Field(default=False, description="torch.compile; pays for itself in long trainings only")
    seed: int = Field(
        default=0, ge=0, le=MAX_SEED, description="draws the weights, the order of the images and the augmentation"
    )

    @model_validator(mode="after")
    def _phases_fit(self) -> "TrainerConfig":
        if self.warmup_epochs >= self.epochs:
            wrong = (
                f"is {self.warmup_epochs:g}, and must be below epochs ({self.epochs}): train longer or warm up for less"
            )
            raise WrongInside([(("warmup_epochs",), wrong)])
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs momentum above 0; raise momentum or set nesterov: false")
        return self


class Recipe(BaseModel):
    """A `data` and a `trainer` section that go together."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    data: DataConfig = Field(default_factory=DataConfig)
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)


def recipe_names() -> tuple[str, ...]:
    """The recipes that ship, in alphabetical order."""
    return tuple(sorted(path.stem for path in _RECIPES.glob("*.yaml")))


def recipe_document(name: str) -> Document:
    """A recipe that ships, by name (`shapes`), or the one in a file, by a path ending in .yaml; for `validate`.

    Raises:
        FileError: no recipe has that name.
    """
    if name in recipe_names():
        return read_yaml(_RECIPES / f"{name}.yaml", name)
    if "/" in name or name.endswith((".yaml", ".yml")):
        return read_yaml(Path(name))
    raise FileError([Problem(name, None, "", f"{unknown('recipe', name, recipe_names())}; a path ends in .yaml")])
