"""The table of data sets: one row and one file each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Layout: TypeAlias = Literal["auto", "classes", "splits"]
"""How a folder of pictures is laid out; see `trainers.datasets.tree`."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a data set comes from."""

    loader: str
    """``module:function``; takes a `DataConfig`, gives a `Dataset`. Imported when it is needed."""
    downloads: bool = False
    """Whether ``data.download`` can fetch its files."""
    files: bool = False
    """Whether images are decoded from files when needed, unless ``data.in_memory`` is set."""
    task: str = "classification"
    """A key of `trainers.tasks.TASKS`: what its labels are for."""


_TORCHVISION = Source("trainers.datasets.torchvision_sets:load", downloads=True)

SOURCES: Mapping[str, Source] = {
    "shapes": Source("trainers.datasets.shapes:load"),
    "fashion_mnist": _TORCHVISION,
    "cifar10": _TORCHVISION,
    "cifar100": _TORCHVISION,
    "imagefolder": Source("trainers.datasets.imagefolder:load", files=True),
}
"""``data.name`` -> where it comes from."""
