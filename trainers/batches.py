"""Batches of a split on a device. Order, crops and flips depend only on (seed, epoch).

So an interrupted training that is resumed at epoch k gets the same batches as without the interruption, on any device
and with any number of decoding processes.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils import data

from trainers.datasets.base import Arrays, DataError, Dataset, Files, Indices, Split
from trainers.datasets.pixels import MARGIN, Box, centre_box, read_image
from trainers.distributed import ALONE, Share

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Normalised float32 [batch, in_channels, image_size, image_size] and int64 [batch]."""

_log = logging.getLogger(__name__)

_ORDER, _CROP = 0, 1  # the purposes of the random streams of (seed, epoch)


class Batches:
    """A data set's splits as batches on `device`.

    ``memory_format`` is that of the images. Only the ``share`` of each batch is loaded. All shares together equal the
    unshared batches, image for image and crop for crop. The host never waits for the device.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        device: torch.device,
        memory_format: torch.memory_format,
        share: Share = ALONE,
    ) -> None:
        self._dataset, self._device, self._memory_format = dataset, device, memory_format
        self._batch_size, self._share = batch_size, share
        self._unreadable: set[str] = set()
        shape = (1, dataset.in_channels, 1, 1)
        # Straight from bytes: (x / 255 - mean) / std = (x - 255 mean) / (255 std).
        self._shift = torch.tensor(dataset.mean, device=device).view(shape) * 255
        self._scale = 1 / (torch.tensor(dataset.std, device=device).view(shape) * 255)

    @property
    def steps(self) -> int:
        """Training batches in an epoch. The images left after the last full batch are skipped in this epoch."""
        return max(1, len(self._dataset.train) // self._batch_size)

    @property
    def size(self) -> int:
        """Images of a training batch, all shares together."""
        return min(self._batch_size, len(self._dataset.train))

    def train(self, epoch: int, seed: int, augment: bool) -> Iterator[Batch]:
        """The training split in this epoch's order, `steps` batches of one size."""
        split = self._dataset.train
        order = np.random.default_rng([seed, epoch, _ORDER]).permutation(len(split))
        parts = self._share.parts(self.steps * self.size, self.size)
        chunks = [order[part] for part in parts]
        labels = torch.from_numpy(split.labels[order]).to(self._device)
        images: Iterator[Tensor]
        if isinstance(split, Files):
            images = (batch for batch, _ in self._decode(split, chunks, (seed, epoch, augment)))
        else:
            images = self._crop_and_flip(split, order, parts, seed, epoch) if augment else self._centre(split, chunks)
        for part, batch in zip(parts, images, strict=True):
            yield self._normalise(batch), labels[part]

    def evaluate(self, split: Split) -> Iterator[Batch]:
        """All of a split in its own order. The last batch may be smaller; it is skipped if the share is empty."""
        parts = [part for part in self._share.parts(len(split), self._batch_size) if part.start < part.stop]
        chunks = [np.arange(part.start, part.stop, part.step) for part in parts]
        labels = torch.tensor(split.labels, device=self._device)
        if not isinstance(split, Files):
            for part, batch in zip(parts, self._centre(split, chunks), strict=True):
                yield self._normalise(batch), labels[part]
            return
        for part, (batch, good) in zip(parts, self._decode(split, chunks, None), strict=True):
            if good:  # unreadable images are left out
                yield self._normalise(batch), labels[part] if len(good) == len(batch) else labels[part][good]

    def _normalise(self, images: Tensor) -> Tensor:
        """uint8 [batch, side, side, channels] -> the images of a `Batch`."""
        floats = images.permute(0, 3, 1, 2).float().sub_(self._shift).mul_(self._scale)
        return floats.contiguous(memory_format=self._memory_format)

    def _to_device(self, images: Tensor) -> Tensor:
        if self._device.type != "cuda":
            return images
        return images.pin_memory().to(self._device, non_blocking=True)

    def _centre(self, split: Arrays, chunks: Sequence[Indices]) -> Iterator[Tensor]:
        edge = (split.images.shape[1] - self._dataset.image_size) // 2
        inside = slice(edge, edge + self._dataset.image_size)
        for chunk in chunks:
            yield self._to_device(torch.from_numpy(split.images[chunk][:, inside, inside]))

    def _crop_and_flip(
        self, split: Arrays, order: Indices, parts: Sequence[slice], seed: int, epoch: int
    ) -> Iterator[Tensor]:
        size, padding = self._dataset.image_size, self._dataset.padding
        play = split.images.shape[1] + 2 * padding - size
        rng = np.random.default_rng([seed, epoch, _CROP])
        count = self.steps * self.size  # images of all shares
        corners = torch.from_numpy(rng.integers(play + 1, size=(2, count))).to(self._device)
        flips = torch.from_numpy(rng.random(count) < (0.5 if self._dataset.flip else 0.0)).to(self._device)
        for part in parts:
            images = self._to_device(torch.from_numpy(split.images[order[part]]))
            yield crop_and_flip(images, corners[:, part], flips[part], size, padding)

    def _decode(
        self, split: Files, chunks: Sequence[Indices], training: tuple[int, int, bool] | None
    ) -> Iterator[tuple[Tensor, list[int]]]:
        """The images of each chunk, and their places in it (in training, all places)."""
        loader = data.DataLoader(
            _Decoder(split, self._dataset.image_size, training),
            sampler=chunks,
            batch_size=None,
            num_workers=split.workers,
            pin_memory=self._device.type == "cuda",
        )
        for chunk, (images, good, errors) in zip(chunks, loader, strict=True):
            for error in errors:
                self._leave_out(split, error)
            if training is not None and len(good) < len(chunk):
                raise DataError(f"{errors[-1]}; nor can any other image of its class be read")
            yield images.to(self._device, non_blocking=True), good

    def _leave_out(self, split: Files, error: str) -> None:
        """Warns once about each unreadable image; raises a DataError if there are too many."""
        if error not in self._unreadable:
            self._unreadable.add(error)
            if len(self._unreadable) > split.may_lack:
                raise DataError(f"{error}; data.max_unreadable allows no more of them")
            _log.warning("data: left out: %s", error)


def crop_and_flip(images: Tensor, corners: Tensor, flips: Tensor, size: int, padding: int) -> Tensor:
    """Cuts a window out of each image and mirrors some windows.

    Args:
        images: [batch, side, side, channels]; padded with zeros by `padding` pixels at each edge.
        corners: int64 [2, batch], first row and first column of each window in the padded image.
        flips: bool [batch], the windows to mirror left to right.
        size: side of the windows.
        padding: at least 0.

    Returns:
        [batch, size, size, channels]
    """
    if padding:
        images = pad(images, (0, 0, padding, padding, padding, padding))
    ahead = torch.arange(size, device=images.device)
    columns = torch.where(flips[:, None], ahead.flip(0), ahead) + corners[1][:, None]
    rows = ahead + corners[0][:, None]
    batch = torch.arange(len(images), device=images.device)
    return images[batch[:, None, None], rows[:, :, None], columns[:, None, :]]


class _Decoder(data.Dataset[tuple[Tensor, list[int], list[str]]]):
    """Indices of a batch -> uint8 [batch, size, size, 3]. Runs in the decoding processes.

    It also returns the images' places in the batch, and an error for each unreadable image. Evaluation leaves such an
    image out. Training replaces it by the next image of its class, to keep the batch size.
    """

    def __init__(self, split: Files, size: int, training: tuple[int, int, bool] | None) -> None:
        self._split, self._size, self._training = split, size, training

    def __getitem__(self, indices: Indices) -> tuple[Tensor, list[int], list[str]]:
        images, good, errors = [], [], list[str]()
        for place, index in enumerate(indices.tolist()):
            for candidate in self._candidates(index):
                try:
                    images.append(self._one(candidate))
                except DataError as error:
                    # Returned, not raised: the loader would wrap it into the process's whole traceback.
                    errors.append(str(error))
                else:
                    good.append(place)
                    break
        if not images:
            return torch.empty(0, self._size, self._size, 3, dtype=torch.uint8), good, errors
        return torch.from_numpy(np.stack(images)), good, errors

    def _candidates(self, index: int) -> Iterator[int]:
        yield index
        if self._training is not None:
            alike = np.flatnonzero(self._split.labels == self._split.labels[index])
            at = int(np.searchsorted(alike, index))
            yield from np.roll(alike, -at)[1:].tolist()

    def _one(self, index: int) -> npt.NDArray[np.uint8]:
        if self._training is None or not self._training[2]:
            return read_image(self._split, index, lambda size: centre_box(size, 1 / MARGIN), self._size)
        seed, epoch, _ = self._training
        rng = np.random.default_rng([seed, epoch, _CROP, index])
        image = read_image(self._split, index, lambda size: random_box(size, rng), self._size)
        return image[:, ::-1] if rng.random() < 0.5 else image


def random_box(size: tuple[int, int], rng: np.random.Generator) -> Box:
    """A random box: 8 to 100 % of an image's area (width, height), 3:4 to 4:3 if it fits (Szegedy et al., 2015)."""
    width, height = size
    area = width * height * rng.uniform(0.08, 1.0)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    w, h = min(width, (area * aspect) ** 0.5), min(height, (area / aspect) ** 0.5)
    left, upper = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return left, upper, left + w, upper + h
