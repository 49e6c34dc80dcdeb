"""Pictures as uint8 arrays: reading, cropping, resizing and statistics."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn.functional import interpolate

from trainers.datasets.base import DataError, Files, shown
from trainers.datasets.pictures import Unreadable, opened, upright

MARGIN = 8 / 7
"""A training image is kept, or resized for evaluation, at this multiple of `image_size`: 256 for 224."""

Box: TypeAlias = tuple[float, float, float, float]


def read_image(split: Files, index: int, box: Callable[[tuple[int, int]], Box], side: int) -> npt.NDArray[np.uint8]:
    """The box (left, upper, right, lower) `box(width, height)` of an image, resized to uint8 [side, side, 3].

    Raises:
        DataError: the file cannot be read; names it.
    """
    return read_picture(split.path(index), box, side)


def read_picture(path: Path, box: Callable[[tuple[int, int]], Box], side: int) -> npt.NDArray[np.uint8]:
    """As `read_image`, of a file."""
    try:
        with opened(path) as (_, image):
            rgb = upright(image)
            return np.asarray(rgb.resize((side, side), Image.Resampling.BILINEAR, box(rgb.size)))
    except Unreadable as error:
        raise DataError(f"{shown(path)}: cannot be read as an image ({error}); repair or remove it") from error


def centre_box(size: tuple[int, int], share: float) -> Box:
    """The square in the middle whose side is `share` of the shorter side of an image (width, height)."""
    width, height = size
    half = min(size) * share / 2
    return width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half


def resize(images: npt.NDArray[np.uint8], side: int | None) -> npt.NDArray[np.uint8]:
    """[N, h, w, C] -> [N, side, side, C] with antialiasing; a thousand images at a time, because it needs floats."""
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


def statistics(images: npt.NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in [0, 1]; exact, from the 256 counts."""
    values = np.arange(256) / 255
    shares = [np.bincount(images[..., c].ravel(), minlength=256) / images[..., c].size for c in range(images.shape[-1])]
    mean = [float(share @ values) for share in shares]
    std = [max(float(share @ (values - m) ** 2) ** 0.5, 1 / 255) for share, m in zip(shares, mean, strict=True)]
    return tuple(mean), tuple(std)
