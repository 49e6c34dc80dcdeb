"""A tree with a folder per class, or train/, val/ and test/ with such folders. docs/data.md describes it."""

import logging
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from search_spaces.files import at_home
from trainers.datasets.base import Arrays, DataError, Dataset, Files, Indices, Split, shown
from trainers.datasets.config import DataConfig
from trainers.datasets.inspection import Inspection, Part, Progress, inspect_folder, lacking
from trainers.datasets.pixels import MARGIN, centre_box, read_image, statistics
from trainers.datasets.splits import capped, carve, part_size

_IMAGENET_STATISTICS: tuple[tuple[float, ...], tuple[float, ...]] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_FEW = 3
"""A split with fewer pictures of a class says little about the class."""

_MANY = 1000
"""Pictures between two progress messages."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Divided:
    """The three splits that a training sees."""

    train: Files
    val: Files
    test: Files
    warnings: tuple[str, ...]
    """What a user should know about them, one line each."""


def load(config: DataConfig) -> Dataset:
    """The images below ``config.root``; problems are logged as warnings.

    Raises:
        DataError: the tree is unsuitable, a split would be empty, or too many images cannot be read.
    """
    inspection = inspect(config, _show_progress if sys.stderr.isatty() else None)
    divided = divide(inspection, config)
    for line in (*inspection.warnings, *divided.warnings):
        _log.warning("data: %s", line)
    size = config.image_size or 224
    mean, std = _IMAGENET_STATISTICS
    train: Split = divided.train
    val: Split = divided.val
    test: Split = divided.test
    if config.in_memory:
        train, val, test = (
            _decode_all(split, round(size * MARGIN)) for split in (divided.train, divided.val, divided.test)
        )
        mean, std = statistics(train.images)
    classes = inspection.classes
    return Dataset("imagefolder", train, val, test, classes, size, 3, mean, std, flip=True, padding=0)


def _show_progress(done: int, total: int) -> None:
    """Shows progress on one terminal line, if there are many pictures."""
    if total >= _MANY and (done % _MANY == 0 or done == total):
        end = "\n" if done == total else ""
        print(f"\rlooking at pictures: {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)


def inspect(config: DataConfig, progress: Progress | None = None) -> Inspection:
    """Inspects the folder that `config` names.

    Raises:
        DataError: as `inspect_folder`.
    """
    root = at_home(config.root)
    return inspect_folder(root, layout=config.layout, max_unreadable=config.max_unreadable, progress=progress)


def divide(inspection: Inspection, config: DataConfig) -> Divided:
    """The splits. Those with folders are unchanged; the others are carved out of the training data.

    Raises:
        DataError: a split would be empty.
    """
    parts, warnings = dict(inspection.parts), list[str]()
    full = parts.pop("train")
    if "test" not in parts and "val" in parts:
        # Papers report figures on a single `val` folder, as in ImageNet, so it becomes the test set.
        parts["test"] = parts.pop("val")
    first = np.sort(np.unique(full.content, return_index=True)[1])
    if len(first) < len(full.content) and len(parts) < 2:
        copies = len(full.content) - len(first)
        if 2 * len(first) < len(full.content):
            # Too few distinct pictures are left for carving. Allow copies in both parts, with a warning.
            full = replace(full, content=np.arange(len(full.content)))
            told = "the part carved out of it shares pictures with the training data, so metrics on it are too good"
        else:
            told = "the part carved out of it has none of them and shares no picture with the training data"
        warnings.append(f"{copies} of {len(full.content)} pictures of the training data are copies of others: {told}")
    for split in ("test", "val"):
        if split in parts:
            continue
        full, parts[split] = _carve(full, split, config)
        warnings += _told_of_carved(split, parts[split], inspection.classes)
    train = capped(config, _files(full, inspection, config))
    val, test = (_files(parts[split], inspection, config) for split in ("val", "test"))
    if not min(len(train), len(val), len(test)):
        raise DataError(
            f"imagefolder: {len(train)} train, {len(val)} val and {len(test)} test images in {shown(inspection.root)} "
            "are too few; add images, or folders train/, val/ and test/ of your own"
        )
    return Divided(train, val, test, tuple(warnings))


def _carve(part: Part, split: str, config: DataConfig) -> tuple[Part, Part]:
    """(rest, taken): no picture's copy is in both, and `taken` has no copies."""
    first = np.sort(np.unique(part.content, return_index=True)[1])
    labels = part.labels[first]
    leave = 2 if split == "test" else 1  # for training and the splits that are carved later
    count = part_size(labels, leave=leave)
    if split == "val":
        count = config.val_size or max(count, 1)
        if count >= len(labels):
            raise DataError(
                f"imagefolder: val_size ({count}) leaves none of the {len(labels)} training images; lower val_size"
            )
    kept, taken = (first[indices] for indices in carve(labels, count, config.seed, leave=leave))
    copies = np.setdiff1d(np.arange(len(part.labels)), first)
    staying = copies[~np.isin(part.content[copies], part.content[taken])]
    return _take(part, np.sort(np.concatenate([kept, staying]))), _take(part, taken)


def _take(part: Part, indices: Indices) -> Part:
    return Part(part.folder, part.paths[indices], part.labels[indices], part.content[indices])


def _files(part: Part, inspection: Inspection, config: DataConfig) -> Files:
    return Files(str(part.folder), part.paths, part.labels, config.workers, inspection.may_lack)


def _told_of_carved(split: str, part: Part, classes: Sequence[str]) -> Iterator[str]:
    name = f"{ {'val': 'validation', 'test': 'test'}[split] }, carved out of the training data,"
    yield from lacking(name, part.labels, classes)
    counts = np.bincount(part.labels, minlength=len(classes)).tolist()
    few = [f"{shown(of)} ({count})" for of, count in zip(classes, counts, strict=True) if 0 < count < _FEW]
    if few and max(counts) >= _FEW:
        more = f" and {len(few) - _FEW} more" if len(few) > _FEW else ""
        yield f"{name} has at least one picture of a class where it can, and few of {', '.join(few[:_FEW])}{more}"


def _decode_all(split: Files, side: int) -> Arrays:
    """All readable images, as `Batches` would stream them."""
    images = np.empty((len(split), side, side, 3), dtype=np.uint8)

    def decode(i: int) -> DataError | None:
        try:
            images[i] = read_image(split, i, lambda size: centre_box(size, 1.0), side)
        except DataError as error:
            return error
        return None

    # Threads suffice: PIL releases the interpreter lock while it decodes and resizes.
    with ThreadPoolExecutor(max(1, split.workers)) as pool:
        results = list(pool.map(decode, range(len(split))))
    errors = [error for error in results if error is not None]
    if len(errors) > split.may_lack:
        raise errors[0]
    for error in errors:
        _log.warning("data: left out: %s", error)
    good: npt.NDArray[np.bool_] = np.array([error is None for error in results], dtype=np.bool_)
    return Arrays(images, split.labels) if good.all() else Arrays(images[good], split.labels[good])
