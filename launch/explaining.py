"""What a trained network's attention looks at, as pictures: `nas explain`."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from launch.errors import UserError
from launch.reports.attention import Gates, Picture, Query, attended, by_channel, by_depth, laid_over
from nas.explain import Part, by_class, cell, look, showing, strongest
from nas.operators import Attention, ChannelGates, Maps, SpatialGates
from nas.skeletons import Network
from search_spaces import Architecture
from search_spaces.errors import named
from trainers.datasets.pictures import extensions
from trainers.trained import Trained, load_trained

Pixel: TypeAlias = tuple[int, int]
_Shown = TypeVar("_Shown", ChannelGates, SpatialGates, Attention)

_NAME = re.compile(r"[^\w.-]+")
_UNKNOWN = "no class"
"""The name of pictures that are in no class's folder."""


def explain(
    architecture: Architecture, weights: Path, images: Sequence[Path], pixels: Sequence[str], most: int, *, cam: bool
) -> Iterator[tuple[str, Figure]]:
    """Names and figures, one after another.

    Everything that a user can have got wrong is found before the first figure.

    Args:
        architecture: the network.
        weights: a checkpoint of `nas train`, or its folder.
        images: pictures, and folders of them. A picture in a folder named like a class counts for this class.
        pixels: ``ROW,COLUMN`` of the queries whose attention is drawn; none takes the middle and, for each part, the
            pixel that receives most attention.
        most: the most pictures that get figures of their own; means are over all pictures.
        cam: whether to draw class activation maps too.

    Raises:
        UserError: a pixel is outside, there are no pictures, there is nothing to show, or captum is not installed.
        CheckpointError: the weights are no checkpoint, or of another network.
        DataError: a picture cannot be read.
    """
    file = weights / "checkpoint.pt" if weights.is_dir() else weights
    trained = load_trained(file, architecture, weights=_tested(file))
    if cam:
        _captum()
    chosen = [_pixel(text, trained.side) for text in pixels]
    network, parts = showing(architecture)
    if not parts and not cam:
        raise UserError(
            f"nothing to show: {architecture.name or 'the network'} has no operator that shows attention; "
            "--cam draws a class activation map of any network"
        )
    network.load_state_dict(trained.weights)
    found = list(_pictures(images, trained.classes))
    pictures = [trained.read(path) for path, _ in found]
    drawn = set(_spread([label for _, label in found])[:most])
    return _figures(network, parts, trained, list(zip(found, pictures, strict=True)), drawn, chosen, cam=cam)


def _figures(
    network: Network,
    parts: Sequence[Part],
    trained: Trained,
    found: Sequence[tuple[tuple[Path, str], Picture]],
    drawn: set[int],
    chosen: Sequence[Pixel],
    *,
    cam: bool,
) -> Iterator[tuple[str, Figure]]:
    gates: dict[str, list[ChannelGates]] = {}
    for index, ((path, _), picture) in enumerate(found):
        image = trained.normalised(picture)[None]
        logits, shown = look(network, parts, image)
        for part, maps in zip(parts, shown, strict=True):
            for label, one in _labelled(part, maps, ChannelGates):
                gates.setdefault(label, []).append(one)
        if index not in drawn:
            continue
        share, best = logits.softmax(1)[0].max(0)
        answer = f"{trained.classes[int(best)]}, {share:.0%}"
        prefix = f"{index + 1:02d}-{_NAME.sub('_', path.stem)[:40]}"
        positions = {
            label: (_grid(one.values[0, 0]), one.low, one.high)
            for part, maps in zip(parts, shown, strict=True)
            for label, one in _labelled(part, maps, SpatialGates)
        }
        if positions:
            title = f"{path.name}: factors of positions (dark: low, bright: high)"
            yield f"{prefix}-positions.png", laid_over(picture, positions, first=f"answer: {answer}", title=title)
        for part, maps in zip(parts, shown, strict=True):
            for label, attention in _labelled(part, maps, Attention):
                title = f"{path.name}: where attention looks in {label} (answer: {answer})"
                name = _NAME.sub("_", label.replace(": ", "-").replace(" ", "-"))
                yield f"{prefix}-{name}.png", attended(picture, _queries(attention, chosen, picture), title=title)
        if cam:
            activation = _grid(_class_activation(network, image, int(best)))
            maps_ = {f"for {answer}": (activation, 0.0, float(activation.max()) or 1.0)}
            title = f"{path.name}: class activation map (Grad-CAM of the last stage)"
            yield f"{prefix}-class.png", laid_over(picture, maps_, first="the picture", title=title)
    if gates:
        rows = _by_class(gates, [label or _UNKNOWN for (_, label), _ in found])
        count = f"mean over {len(found)} picture{'s' * (len(found) != 1)}"
        yield "channels-by-depth.png", by_depth(rows, title=f"Factors of channels by depth, {count}")
        yield "channels.png", by_channel(rows, title=f"Factor of every channel, {count}")


def _labelled(part: Part, maps: Maps, kind: type[_Shown]) -> Iterator[tuple[str, _Shown]]:
    """The maps of one kind, by the part's name, and the map's where there are several of the kind."""
    ours = {name: one for name, one in maps.items() if isinstance(one, kind)}
    for name, one in ours.items():
        yield part.name if len(ours) == 1 else f"{part.name}, {name}", one


def _queries(attention: Attention, chosen: Sequence[Pixel], picture: Picture) -> list[Query]:
    """The chosen pixels; or the middle, and what receives most attention."""
    side = picture.shape[0], picture.shape[1]
    rows, columns = attention.queries
    if rows * columns == 1 and attention.keys != (1, 1):
        return [Query("one query for all positions", None, _weights(attention, 0))]
    pixels = {f"from row {row}, column {column}": (row, column) for row, column in chosen} or {
        "from the middle": (side[0] // 2, side[1] // 2),
        "from the most attended": strongest(attention, side),
    }
    cells = {name: cell(pixel, side, attention.queries) for name, pixel in pixels.items()}
    return [
        Query(name, pixels[name], _weights(attention, row * columns + column)) for name, (row, column) in cells.items()
    ]


def _weights(attention: Attention, query: int) -> npt.NDArray[np.floating[Any]]:
    """[heads, rows, columns] of one query, in the first image."""
    return _grid(attention.weights(torch.tensor([query]))[0, :, 0]).reshape(-1, *attention.keys)


def _by_class(gates: Mapping[str, Sequence[ChannelGates]], labels: Sequence[str]) -> list[Gates]:
    """A row for each part: means over the pictures of each class."""
    return [
        Gates(
            name,
            {of: _grid(mean) for of, mean in by_class(torch.cat([one.values for one in found]), labels).items()},
            found[0].low,
            found[0].high,
        )
        for name, found in gates.items()
    ]


def _class_activation(network: Network, image: Tensor, target: int) -> Tensor:
    """Grad-CAM of the last stage (Selvaraju et al., 2017): [rows, columns], at least 0."""
    last = list(network.stages.values())[-1]
    activation: Tensor = _captum().LayerGradCam(network, last).attribute(image, target=target, relu_attributions=True)
    return activation[0, 0]


def _captum() -> Any:  # noqa: ANN401  # a module of a package that may be missing
    try:
        return import_module("captum.attr")
    except ImportError as error:
        raise UserError("--cam needs the package captum, which is not installed: pip install captum") from error


def _grid(values: Tensor) -> npt.NDArray[np.floating[Any]]:
    found: npt.NDArray[np.floating[Any]] = values.detach().float().numpy()
    return found


def _pictures(images: Sequence[Path], classes: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Every picture, and its folder's name if it is a class, else ""."""
    for image in images:
        paths = [image]
        if image.is_dir():
            paths = sorted(path for path in image.rglob("*") if path.suffix.lower() in extensions() and path.is_file())
            if not paths:
                raise UserError(f"{named(image)}: no pictures in this folder; name a picture, or a folder of them")
        for path in paths:
            folder = path.absolute().parent.name
            yield path, folder if folder in classes else ""


def _spread(labels: Sequence[str]) -> list[int]:
    """The numbers of the pictures: first one of each class, then a second one of each, and so on."""
    classes = [[index for index, label in enumerate(labels) if label == name] for name in sorted(set(labels))]
    return [index for several in zip_longest(*classes) for index in several if index is not None]


def _pixel(text: str, side: int) -> Pixel:
    row, _, column = text.partition(",")
    if row.isdecimal() and column.isdecimal() and max(int(row), int(column)) < side:
        return int(row), int(column)
    raise UserError(f"--pixel {text}: must be ROW,COLUMN, each from 0 to {side - 1}; images here are {side}x{side}")


def _tested(checkpoint: Path) -> str | None:
    """The weights that `nas train` tested; None if it has not come so far."""
    figures = checkpoint.with_name("figures.json")
    if not figures.is_file():
        return None
    try:
        found = json.loads(figures.read_text())
        return str(found["weights"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{named(figures)}: does not say which weights were tested; move it away") from error
