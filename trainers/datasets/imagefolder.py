"""A tree with a folder per class, or train/, val/ and test/ with those."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from trainers.datasets.base import Arrays, DataError, Dataset, Files, Split
from trainers.datasets.config import DataConfig
from trainers.datasets.pixels import MARGIN, centre_box, read_image, statistics
from trainers.datasets.splits import capped, carve, carve_validation

_IMAGENET_STATISTICS: tuple[tuple[float, ...], tuple[float, ...]] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def load(config: DataConfig) -> Dataset:
    """The images below ``config.root``.

    Raises:
        DataError: it is no such tree, a split would be empty, or an image cannot be read.
    """
    root = Path(config.root).expanduser()
    train_root = root / "train" if (root / "train").is_dir() else root
    classes = _class_folders(train_root)
    full = _list_files(train_root, classes, config)
    given = [root / name for name in ("val", "test") if train_root != root and (root / name).is_dir()]
    val: Split
    test: Split
    if given:
        # A `val` alone, as ImageNet has it, is what papers report on: it plays the test set.
        test = _list_files(given[-1], classes, config)
    else:
        rest, taken = carve(full.labels, len(full) // 10, config.seed)
        full, test = full.take(rest), full.take(taken)
    train: Split
    if len(given) == 2:
        train, val = capped(config, full), _list_files(given[0], classes, config)
    else:
        train, val = carve_validation(config, full)
    if not min(len(train), len(val), len(test)):
        raise DataError(
            f"imagefolder: {len(train)} train, {len(val)} val and {len(test)} test images in {root} are too few; "
            "add images, or folders train/, val/ and test/ of your own"
        )
    size = config.image_size or 224
    mean, std = _IMAGENET_STATISTICS
    if config.in_memory:
        train, val, test = (_decode_all(split, round(size * MARGIN)) for split in (train, val, test))
        mean, std = statistics(train.images)
    return Dataset("imagefolder", train, val, test, classes, size, 3, mean, std, flip=True, padding=0)


def _class_folders(folder: Path) -> tuple[str, ...]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    if len(names) < 2:
        raise DataError(
            f"imagefolder: {folder} has {len(names)} class folders and needs at least 2.\n"
            "data.root is the folder that holds one folder per class, or train/ and val/ or test/ with those"
        )
    return tuple(names)


def _list_files(folder: Path, classes: Sequence[str], config: DataConfig) -> Files:
    unknown = sorted(set(_class_folders(folder)) - set(classes))
    if unknown:
        raise DataError(
            f"imagefolder: {folder / unknown[0]} is no class of the training data; remove it or add it there"
        )
    index = {name: label for label, name in enumerate(classes)}
    found = make_dataset(folder, index, extensions=IMG_EXTENSIONS, allow_empty=True)
    paths = np.array([os.fsencode(os.path.relpath(path, folder)) for path, _ in found], dtype=np.bytes_)
    return Files(str(folder.absolute()), paths, np.array([label for _, label in found], dtype=np.int64), config.workers)


def _decode_all(split: Split, side: int) -> Arrays:
    assert isinstance(split, Files)
    images = np.empty((len(split), side, side, 3), dtype=np.uint8)

    def decode(i: int) -> None:
        images[i] = read_image(split, i, lambda size: centre_box(size, 1.0), side)

    # Threads suffice: PIL lets go of the interpreter while it decodes and resizes.
    with ThreadPoolExecutor(max(1, split.workers)) as pool:
        for _ in pool.map(decode, range(len(split))):
            pass
    return Arrays(images, split.labels)
