"""Fashion-MNIST, CIFAR-10 and CIFAR-100 as torchvision reads them."""

import numpy as np
from filelock import FileLock
from torchvision import datasets

from search_spaces.files import at_home
from trainers.datasets.base import Arrays, DataError, Dataset
from trainers.datasets.config import DataConfig
from trainers.datasets.pixels import resize, statistics
from trainers.datasets.splits import carve_validation

_SETS = {
    "fashion_mnist": (datasets.FashionMNIST, "FashionMNIST/raw"),
    "cifar10": (datasets.CIFAR10, "cifar-10-batches-py"),
    "cifar100": (datasets.CIFAR100, "cifar-100-python"),
}
"""Name -> (torchvision's class, the folder of its files)."""


def load(config: DataConfig) -> Dataset:
    """The set that `config` names; its test files are the test split.

    Raises:
        DataError: its files are missing, or a split would be empty.
    """
    source, folder = _SETS[config.name]
    root = at_home(config.root)
    try:
        if config.download:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f".{config.name}.lock"):
                source(root, download=True)
        parts = [source(root, train=train) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{config.name}: no complete data in {root / folder} ({str(error).splitlines()[0]}).\n"
            "Put the unpacked files there, name their folder by data.root, or let data.download=true fetch them"
        ) from error
    arrays = []
    for part in parts:
        images = np.asarray(part.data, dtype=np.uint8)
        images = images[..., None] if images.ndim == 3 else images
        arrays.append(Arrays(resize(images, config.image_size), np.asarray(part.targets, dtype=np.int64)))
    full, test = arrays
    train, val = carve_validation(config, full)
    assert isinstance(train, Arrays)
    mean, std = statistics(train.images)
    side, channels = train.images.shape[2:]
    padding = side // 8
    classes = tuple(parts[0].classes)
    return Dataset(config.name, train, val, test, classes, side, channels, mean, std, flip=True, padding=padding)
