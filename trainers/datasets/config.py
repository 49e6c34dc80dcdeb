"""The `data` section of a run file."""

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from search_spaces.yamlfile import MAX_SEED, WrongInside, unknown
from trainers.datasets.table import SOURCES, Layout

MAX_IMAGES = 1_000_000_000
_DRAWN_BYTES = 2**34


class DataConfig(BaseModel):
    """Which pictures, and how they are split. `trainers.load_data` reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(
        default="shapes",
        description="shapes: built in, drawn from the seed; fashion_mnist, cifar10, cifar100: read by torchvision; "
        "imagefolder: any tree with a folder per class",
    )
    root: str = Field(default="data", min_length=1, description="folder that holds the files; unused by shapes")
    download: bool = Field(
        default=False, description="fetch missing files (fashion_mnist, cifar10, cifar100); never done unasked"
    )
    image_size: int | None = Field(
        default=None, ge=8, le=1024, description="side in pixels; left out: the set's own, 224 for imagefolder"
    )
    train_size: int | None = Field(
        default=None,
        ge=1,
        le=MAX_IMAGES,
        description="train on so many images, every class in proportion; left out: on all there are",
    )
    val_size: int | None = Field(
        default=None,
        ge=1,
        le=MAX_IMAGES,
        description="images carved from the training data for selection, every class in proportion and with one at "
        "least; left out: a tenth, or one of each class if that is more; "
        "of no effect on an imagefolder with val/ and test/ of its own",
    )
    layout: Layout = Field(
        default="auto",
        description="imagefolder: classes, if each folder is a class; splits, if train/, val/ and test/ hold them; "
        "auto: by the folders' names",
    )
    max_unreadable: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="imagefolder: share of the pictures that may be unreadable; they are left out with a warning",
    )
    in_memory: bool = Field(
        default=False,
        description="imagefolder: decode once and keep the images (a node's workers share them) instead of streaming",
    )
    workers: int = Field(default=2, ge=0, le=256, description="processes that decode a streamed imagefolder")
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="draws the shapes and the validation split")

    @field_validator("name")
    @classmethod
    def _name_known(cls, name: str) -> str:
        if name not in SOURCES:
            raise ValueError(unknown("data set", name, SOURCES))
        return name

    @model_validator(mode="after")
    def _options_fit_the_set(self) -> "DataConfig":
        source = SOURCES[self.name]
        if self.name == "shapes":
            most = _DRAWN_BYTES // (3 * (self.image_size or 32) ** 2)
            wrong = [
                ((key,), f"is {size}; shapes are drawn in memory, which holds {most:,} of this size: draw fewer")
                for key, size in (("train_size", self.train_size), ("val_size", self.val_size))
                if size is not None and size > most
            ]
            if wrong:
                raise WrongInside(wrong)
        if self.download and not source.downloads:
            raise ValueError(f"download: {self.name} cannot be downloaded; leave it out")
        if self.in_memory and not source.files:
            raise ValueError(f"in_memory: {self.name} is always kept in memory; only imagefolder has this key")
        return self
