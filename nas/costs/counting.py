"""Counts parameters and multiply-adds of an architecture by integer arithmetic."""

from nas.operators import Cost, operators
from nas.skeletons import SKELETONS
from search_spaces import Architecture
from search_spaces.sites import EMPTY


def count(architecture: Architecture) -> Cost:
    """The exact cost of one image of the skeleton's ``image_size``; creates no tensor.

    ``params`` equals the sum of ``numel`` over the built network's parameters. ``macs`` counts convolutions, linear
    layers and matrix products, including the two products of attention. It is half of what
    `torch.utils.flop_counter.FlopCounterMode` counts for one image.
    """
    total = SKELETONS[architecture.skeleton.family].cost(architecture.skeleton)
    for block in architecture.blocks:
        chosen = architecture.resolved.get(block.name, {})
        for slot, site in block.sites.items():
            option, resolved = chosen.get(slot, (EMPTY[slot], {}))
            total += operators()[option].cost(site, resolved)
    return total


def params(architecture: Architecture) -> int:
    """Trainable parameters; see `count`."""
    return count(architecture).params


def macs(architecture: Architecture) -> int:
    """Multiply-adds of one image; see `count`."""
    return count(architecture).macs
