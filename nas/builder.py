"""From an architecture to its network."""

from contextlib import nullcontext

import torch

from nas.operators import OPERATORS
from nas.skeletons import SKELETONS, Network
from search_spaces import Architecture
from search_spaces.sites import EMPTY, Slot


def build_model(architecture: Architecture, *, device: torch.device | str | None = None) -> Network:
    """Build the network of an architecture, freshly initialised from torch's global generator.

    Args:
        architecture: what stands where; only its skeleton and resolved values are read.
        device: where parameters are made. On ``"meta"`` nothing is allocated or initialised.

    Returns:
        A module in training mode: [batch, in_channels, H, W] -> logits [batch, num_classes]. H and W may differ from
        the skeleton's ``image_size``. ``features(images)`` returns the output of every stage by name.
    """
    sites = {block.name: block.sites for block in architecture.blocks}

    def place(block: str, slot: Slot) -> torch.nn.Module:
        option, resolved = architecture.resolved.get(block, {}).get(slot, (EMPTY[slot], {}))
        return OPERATORS[option].build(sites[block][slot], resolved)

    with torch.device(device) if device is not None else nullcontext():
        return SKELETONS[architecture.skeleton.family].build(architecture.skeleton, place)
