"""Builds the network of an architecture."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

from nas.operators import operators
from nas.skeletons import SKELETONS, Network
from search_spaces import Architecture
from search_spaces.sites import EMPTY, Slot


def build_model(architecture: Architecture, *, device: torch.device | str | None = None) -> Network:
    """Builds the network of an architecture; torch's global generator draws the initial parameters.

    Args:
        architecture: only its skeleton and its resolved values are read.
        device: where to create the parameters. On ``"meta"`` nothing is allocated or initialised.

    Returns:
        A module in training mode: [batch, in_channels, H, W] -> logits [batch, num_classes]. H and W may differ from
        the skeleton's ``image_size``. ``features(images)`` returns the output of every stage, by the stage's name.
    """
    return build_placed(architecture, device=device)[0]


def build_placed(
    architecture: Architecture, *, device: torch.device | str | None = None
) -> tuple[Network, dict[tuple[str, Slot], torch.nn.Module]]:
    """The network of `build_model`, and the modules of its open slots by (block, slot), in the order of building."""
    sites = {block.name: block.sites for block in architecture.blocks}
    placed: dict[tuple[str, Slot], torch.nn.Module] = {}

    def place(block: str, slot: Slot) -> torch.nn.Module:
        option, resolved = architecture.resolved.get(block, {}).get(slot, (EMPTY[slot], {}))
        placed[block, slot] = module = operators()[option].build(sites[block][slot], resolved)
        return module

    with ExitStack() as contexts:
        if device is not None:
            contexts.enter_context(torch.device(device))
            if torch.device(device).type == "meta":
                contexts.enter_context(_NoValues())
        return SKELETONS[architecture.skeleton.family].build(architecture.skeleton, place), placed


class _NoValues(TorchFunctionMode):
    """Skips initialisation: a meta tensor has no values, but initialising it takes a millisecond per layer."""

    _initialisers = frozenset(
        {
            init.kaiming_normal_,
            init.kaiming_uniform_,
            init.uniform_,
            init.normal_,
            Tensor.normal_,
            Tensor.uniform_,
            Tensor.zero_,
            Tensor.fill_,
        }
    )

    def __torch_function__(
        self,
        func: Callable[..., Any],
        _types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever torch's function returns
        kwargs = kwargs or {}
        if func in self._initialisers:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
