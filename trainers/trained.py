"""The networks in a checkpoint, without the training that wrote it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from search_spaces import Architecture, parse_architecture
from search_spaces.errors import named
from trainers.checkpoint import CheckpointError, restore
from trainers.datasets import SOURCES
from trainers.datasets.pixels import MARGIN, centre_box, read_picture

_REMEDY = "give a checkpoint.pt of nas train"
_NETWORKS = ("averaged", "model")
"""Names of a training's networks; the first one that a checkpoint has is judged (`Training.networks`)."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network's weights, and what its images must be."""

    weights: Mapping[str, Tensor]
    """A state dict."""
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Of each channel, in [0, 1]."""
    std: tuple[float, ...]
    side: int
    """Height and width of an image."""
    share: float
    """Side of the square that evaluation cuts out of the middle of a picture, as a share of its shorter side."""

    def read(self, path: Path) -> npt.NDArray[np.uint8]:
        """A picture as evaluation sees it, in [side, side, 3].

        Raises:
            DataError: the file cannot be read; names it.
        """
        return read_picture(path, lambda size: centre_box(size, self.share), self.side)

    def normalised(self, picture: npt.NDArray[np.uint8]) -> Tensor:
        """uint8 [side, side, 3] -> float32 [channels, side, side]."""
        if len(self.mean) == 1:
            picture = np.asarray(Image.fromarray(picture).convert("L"))[..., None]
        shape = (len(self.mean), 1, 1)
        values = torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255
        return (values - torch.tensor(self.mean).view(shape)) / torch.tensor(self.std).view(shape)


def load_trained(path: Path, architecture: Architecture, *, weights: str | None = None) -> Trained:
    """The weights in a checkpoint, for an architecture.

    Args:
        path: a file that a training wrote.
        architecture: the network that the weights are for.
        weights: ``averaged`` or ``model``; default: the averaged ones if there are any.

    Raises:
        CheckpointError: the file is damaged, no checkpoint, or of another network; names the first difference.
        FileNotFoundError: there is no such file.
    """
    state = restore(path, {}, torch.device("cpu"), remedy=_REMEDY)
    theirs = parse_architecture(state["architecture"], str(path))
    if theirs.fingerprint != architecture.fingerprint:
        raise CheckpointError(
            f"{named(path)}: weights of another network: {_difference(theirs, architecture)}; "
            "give the architecture.yaml that nas train wrote beside them"
        )
    names = [name for name in _NETWORKS if name in state]
    chosen = names[0] if weights is None else weights
    if chosen not in names:
        raise CheckpointError(f"{named(path)}: has no weights named {chosen}, but {' and '.join(names)}")
    whole = SOURCES.get(state["training"]["data"])
    return Trained(
        weights=state[chosen],
        classes=tuple(state["classes"]),
        mean=tuple(state["mean"]),
        std=tuple(state["std"]),
        side=architecture.skeleton.image_size,
        share=1 / MARGIN if whole is not None and whole.files else 1.0,
    )


def _difference(theirs: Architecture, ours: Architecture) -> str:
    """The first values that differ, by their place in the file."""
    places = (
        dict(_leaves("skeleton", theirs.skeleton.model_dump())),
        dict(_leaves("skeleton", ours.skeleton.model_dump())),
    )
    if places[0] == places[1]:
        places = dict(_leaves("", theirs.resolved)), dict(_leaves("", ours.resolved))
    for key in {**places[0], **places[1]}:
        found, needs = (place.get(key, "absent") for place in places)
        if found != needs:
            return f"{key} is {found} there, and {needs} in the config"
    return "the blocks differ"


def _leaves(place: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{place}.{key}".lstrip("."), inner)
    elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Mapping):  # (option, resolved values)
        yield place, value[0]
        yield from _leaves(place, value[1])
    else:
        yield place, value
