"""Data sets as values: three splits and what a network must know of them.

Selection sees `train` and `val` alone. `val` is carved from the training data; `test` is for the last figures.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from PIL import Image
from torch.nn.functional import interpolate

from trainers import shapes
from trainers.config import DataConfig

Labels: TypeAlias = npt.NDArray[np.int64]

_IMAGENET_STATISTICS: tuple[tuple[float, ...], tuple[float, ...]] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

_SHAPES_SIZES = (8_000, 2_000, 4_000)
"""Pictures of `shapes` drawn for train, val and test unless the configuration says otherwise."""

MARGIN = 8 / 7
"""A training image is kept, or resized for evaluation, at this multiple of `image_size`: 256 for 224."""


class DataError(ValueError):
    """Files are missing or do not suit; one or two lines that name the folder and the remedy."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """A split in memory. The arrays may be read-only, as Ray's object store hands them out; nothing writes to them."""

    images: npt.NDArray[np.uint8]
    """[N, side, side, in_channels]; where side > image_size, training crops at random and evaluation in the middle."""
    labels: Labels
    """[N], 0 .. num_classes - 1."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.intp]) -> "Arrays":
        """The split of these images alone, in this order."""
        return Arrays(self.images[indices], self.labels[indices])


@dataclass(frozen=True, slots=True)
class Files:
    """A split that is decoded as it is needed."""

    root: str
    paths: npt.NDArray[np.bytes_]
    """[N], encoded for the file system and relative to `root`: one block of memory, whatever N is."""
    labels: Labels
    workers: int

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.intp]) -> "Files":
        """The split of these images alone, in this order."""
        return Files(self.root, self.paths[indices], self.labels[indices], self.workers)


Split: TypeAlias = Arrays | Files


@dataclass(frozen=True, slots=True)
class Dataset:
    """Pickles with its arrays out of band, so that a node's workers can share one copy."""

    name: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    image_size: int
    in_channels: int
    mean: tuple[float, ...]
    """A channel's mean over the training images, in [0, 1]."""
    std: tuple[float, ...]
    flip: bool
    """Whether a mirror image keeps its label."""
    padding: int
    """How far, in pixels, a random crop may reach over the edge of the image."""

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)


def load_data(config: DataConfig) -> Dataset:
    """Reads, splits and describes the data set that `config` names.

    Raises:
        DataError: files are missing, a split would be empty, or an image cannot be read.
    """
    if config.name == "shapes":
        return _load_shapes(config)
    if config.name == "imagefolder":
        return _load_imagefolder(config)
    return _load_torchvision(config)


def carve(labels: Labels, count: int, seed: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Indices (left, taken) of a random `count` items taken, every class in proportion; both in ascending order."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    first = np.cumsum(sizes) - sizes
    of_class = labels[by_class]
    # The i-th of n of its class gets (i + 1/2) / n: the lowest fractions are an even share of all classes.
    fraction = (np.arange(len(labels)) - first[of_class] + 0.5) / sizes[of_class]
    ranked = by_class[np.argsort(fraction, kind="stable")]
    return np.sort(ranked[count:]), np.sort(ranked[:count])


def _carve_validation(config: DataConfig, full: Split) -> tuple[Split, Split]:
    """(train, val) out of all training data."""
    val_size = config.val_size or max(1, len(full) // 10)
    if val_size >= len(full):
        raise DataError(
            f"{config.name}: val_size ({val_size}) leaves none of the {len(full)} training images; lower val_size"
        )
    rest, val = carve(full.labels, val_size, config.seed)
    return _capped(config, full.take(rest)), full.take(val)


def _capped(config: DataConfig, train: Split) -> Split:
    if config.train_size is None:
        return train
    if config.train_size > len(train):
        raise DataError(
            f"{config.name}: train_size ({config.train_size}) is more than the {len(train)} images there are besides "
            "validation; lower it or leave it out"
        )
    return train.take(carve(train.labels, config.train_size, config.seed)[1])


def _load_shapes(config: DataConfig) -> Dataset:
    default_train, default_val, test_size = _SHAPES_SIZES
    sizes = (config.train_size or default_train, config.val_size or default_val, test_size)
    drawn = [shapes.make(size, config.seed, stream) for stream, size in enumerate(sizes)]
    train, val, test = (Arrays(_resize(images, config.image_size), labels) for images, labels in drawn)
    mean, std = _statistics(train.images)
    side = train.images.shape[1]
    return Dataset("shapes", train, val, test, shapes.CLASSES, side, 3, mean, std, flip=True, padding=0)


def _load_torchvision(config: DataConfig) -> Dataset:
    # Imported where it is needed: torchvision takes seconds to load, and `shapes` does without.
    from torchvision import datasets  # noqa: PLC0415

    source = {"fashion_mnist": datasets.FashionMNIST, "cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[
        config.name
    ]
    root = Path(config.root).expanduser()
    try:
        if config.download:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f".{config.name}.lock"):
                source(root, download=True)
        parts = [source(root, train=train) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        folder = {"fashion_mnist": "FashionMNIST/raw", "cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
        raise DataError(
            f"{config.name}: no complete data in {root / folder[config.name]} ({str(error).splitlines()[0]}).\n"
            "Put the unpacked files there, name their folder by data.root, or let data.download=true fetch them"
        ) from error
    arrays = []
    for part in parts:
        images = np.asarray(part.data, dtype=np.uint8)
        images = images[..., None] if images.ndim == 3 else images
        arrays.append(Arrays(_resize(images, config.image_size), np.asarray(part.targets, dtype=np.int64)))
    full, test = arrays
    train, val = _carve_validation(config, full)
    assert isinstance(train, Arrays)
    mean, std = _statistics(train.images)
    side, channels = train.images.shape[2:]
    padding = side // 8
    classes = tuple(parts[0].classes)
    return Dataset(config.name, train, val, test, classes, side, channels, mean, std, flip=True, padding=padding)


def _load_imagefolder(config: DataConfig) -> Dataset:
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
        train, val = _capped(config, full), _list_files(given[0], classes, config)
    else:
        train, val = _carve_validation(config, full)
    if not min(len(train), len(val), len(test)):
        raise DataError(
            f"imagefolder: {len(train)} train, {len(val)} val and {len(test)} test images in {root} are too few; "
            "add images, or folders train/, val/ and test/ of your own"
        )
    size = config.image_size or 224
    mean, std = _IMAGENET_STATISTICS
    if config.in_memory:
        train, val, test = (_decode_all(split, round(size * MARGIN)) for split in (train, val, test))
        mean, std = _statistics(train.images)
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
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset  # noqa: PLC0415

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


Box: TypeAlias = tuple[float, float, float, float]


def read_image(split: Files, index: int, box: Callable[[tuple[int, int]], Box], side: int) -> npt.NDArray[np.uint8]:
    """One image's part `box(width, height)` (left, upper, right, lower), resized to uint8 [side, side, 3]."""
    path = Path(split.root) / os.fsdecode(split.paths[index])
    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
            return np.asarray(rgb.resize((side, side), Image.Resampling.BILINEAR, box(rgb.size)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error}); repair or remove it") from error


def centre_box(size: tuple[int, int], share: float) -> Box:
    """The square in the middle whose side is `share` of the shorter side of an image (width, height)."""
    width, height = size
    half = min(size) * share / 2
    return width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half


def _resize(images: npt.NDArray[np.uint8], side: int | None) -> npt.NDArray[np.uint8]:
    """[N, h, w, C] to [N, side, side, C] with antialiasing; a thousand at a time, since it needs them as floats."""
    if side is None or images.shape[1:3] == (side, side):
        return images
    parts = [
        interpolate(
            torch.tensor(images[i : i + 1000]).permute(0, 3, 1, 2).float(),
            (side, side),
            mode="bilinear",
            antialias=True,
        )
        for i in range(0, len(images), 1000)
    ]
    return np.concatenate([part.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy() for part in parts])


def _statistics(images: npt.NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in [0, 1]; exact, since 256 counts say it all."""
    values = np.arange(256) / 255
    shares = [np.bincount(images[..., c].ravel(), minlength=256) / images[..., c].size for c in range(images.shape[-1])]
    mean = [float(share @ values) for share in shares]
    std = [max(float(share @ (values - m) ** 2) ** 0.5, 1 / 255) for share, m in zip(shares, mean, strict=True)]
    return tuple(mean), tuple(std)
