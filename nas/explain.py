"""What the attention of a network looks at: its operators' own maps, gathered in one pass."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from nas.builder import build_placed
from nas.operators import Attention, Maps, operators
from nas.skeletons import Network
from search_spaces import Architecture
from search_spaces.sites import Slot


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A module of a network that can show its attention."""

    block: str
    slot: Slot
    option: str
    module: nn.Module
    shows: Callable[[nn.Module, Tensor], Maps]

    @property
    def name(self) -> str:
        """``layer2.0 refine: se``."""
        return f"{self.block} {self.slot}: {self.option}"


def showing(architecture: Architecture) -> tuple[Network, list[Part]]:
    """The network in evaluation mode, and its parts that show something, in the order of the architecture's blocks."""
    network, placed = build_placed(architecture)
    network.eval()
    parts = []
    for block in architecture.blocks:
        for slot, (option, _) in architecture.resolved.get(block.name, {}).items():
            shows = operators()[option].shows
            if shows is not None:
                parts.append(Part(block.name, slot, option, placed[block.name, slot], shows))
    return network, parts


@torch.no_grad()
def look(network: nn.Module, parts: Sequence[Part], images: Tensor) -> tuple[Tensor, list[Maps]]:
    """Runs images through a network in evaluation mode, and lets its parts show their maps.

    A part is asked just before it runs, because the network may overwrite its input later. No hook stays behind.

    Args:
        network: holds the parts' modules.
        parts: from `showing`.
        images: [N, C, H, W], normalised.

    Returns:
        The logits [N, classes], and the maps of every part.
    """
    found: dict[int, Maps] = {}

    def ask(index: int, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found[index] = parts[index].shows(parts[index].module, inputs[0])

    with ExitStack() as hooks:
        for index, part in enumerate(parts):
            hooks.callback(part.module.register_forward_pre_hook(partial(ask, index)).remove)
        logits: Tensor = network(images)
    return logits, [found[index] for index in range(len(parts))]


def cell(pixel: tuple[int, int], image: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """The cell of a grid over an image that holds a pixel, all as (row, column) or (rows, columns)."""
    (row, column), (height, width), (rows, columns) = pixel, image, grid
    return row * rows // height, column * columns // width


def strongest(attention: Attention, image: tuple[int, int]) -> tuple[int, int]:
    """The pixel in the middle of the key that receives most attention in the first image, over all heads and queries.

    Args:
        attention: of one image or more.
        image: height and width, in pixels.
    """
    (rows, columns), (height, width) = attention.keys, image
    row, column = divmod(int(attention.received()[0].mean(0).argmax()), columns)
    return (2 * row + 1) * height // (2 * rows), (2 * column + 1) * width // (2 * columns)


def by_class(values: Tensor, labels: Sequence[str]) -> Mapping[str, Tensor]:
    """Means over the images of each class: [N, C] and N names -> [C] by name, in order of the names."""
    return {
        name: values[[index for index, label in enumerate(labels) if label == name]].mean(0)
        for name in sorted(set(labels))
    }
