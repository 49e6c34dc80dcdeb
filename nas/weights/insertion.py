"""Inserts new operators into a trained network so that its logits stay what they were.

Every operator says how it starts (`nas.operators.Operator.start`): as the convolution that it replaces, or as the
identity times a constant. The constant is undone exactly by the layers around the slot:

- In front of ``refine``, and of ``after`` where there is no shortcut, by the norm (or convolution) whose output it is.
- Behind ``after`` of a residual block, and behind the concatenated branches of BN-Inception, by the layers that read
  the map. Shortcuts carry the constant on; the branches that are added to them get it too. Here the constants of many
  blocks multiply, so gates with a bias start at 0.95 rather than at a half.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from nas.operators import Replaced, operators
from nas.operators.gating import OPEN, Gate
from nas.skeletons import Network
from nas.skeletons.inception_resnet_v2 import ScaledResidualBlock
from nas.skeletons.network import Branches
from nas.weights.scales import absorb, is_one, scale

Pictures: TypeAlias = Callable[[], Iterable[Tensor]]
"""Gives a few hundred pictures as a network gets them, in batches of [N, in_channels, H, W]."""


@dataclass(frozen=True, slots=True)
class Insertion:
    """An operator that is to be inserted."""

    path: str
    """Of its slot's module in the network."""
    option: str
    module: nn.Module
    channels: int
    """Of its output."""
    is_convolution: bool
    """Whether it takes the place of a convolution; otherwise it is in ``refine`` or ``after``."""
    is_last: bool
    """Whether no operator behind it is trained already. Only then a constant can be undone behind it, because the
    factors of trained operators depend on their inputs."""


@dataclass(frozen=True, slots=True)
class Change:
    """How inserted operators change the logits."""

    paths: tuple[str, ...]
    """Of the operators that do."""
    share: float | None = None
    """Root mean square of the change, over that of the logits' own deviations from their means; None: no pictures."""
    same: float | None = None
    """Share of the pictures whose highest logit is still that of the same class."""


def insert(network: Network, insertions: Sequence[Insertion], pictures: Pictures | None) -> Change:
    """Starts operators in a network. ``refine`` and ``after`` come first, then convolutions, each from stem to head.

    Args:
        network: trained, with the plain convolutions where operators are to replace them. Changed in place.
        insertions: in the order of the forward pass.
        pictures: for operators that are fitted, or None.
    """
    changing = []
    for insertion in (new for new in insertions if not new.is_convolution):
        constant = _started(insertion, Replaced(None))
        if constant is None or not _undone(network, insertion, constant):
            changing.append(insertion.path)
    before = None
    if pictures is not None and any(new.is_convolution for new in insertions):
        before = _logits(network, pictures)
    for insertion in (new for new in insertions if new.is_convolution):
        convolution = network.get_submodule(insertion.path)
        assert isinstance(convolution, nn.Conv2d)
        maps = None if pictures is None else _maps(network, convolution, pictures)
        if _started(insertion, Replaced(convolution, maps)) != 1:
            changing.append(insertion.path)
        network.set_submodule(insertion.path, insertion.module)
    if pictures is None or before is None or not changing:
        return Change(tuple(changing))
    after = _logits(network, pictures)
    share = (after - before).square().mean().sqrt() / before.std()
    return Change(tuple(changing), share.item(), (after.argmax(1) == before.argmax(1)).float().mean().item())


def _started(insertion: Insertion, replaced: Replaced) -> float | None:
    start = operators()[insertion.option].start
    return None if start is None else start(insertion.module, replaced)


def _undone(network: Network, insertion: Insertion, constant: float) -> bool:
    """Whether the layers around an operator could undo its constant."""
    if constant == 1:
        return True
    factor = torch.full((insertion.channels,), constant, device=next(network.parameters()).device)
    path, _, name = insertion.path.rpartition(".")
    block = network.get_submodule(path)
    if isinstance(block, nn.Sequential):
        before = block[: int(name)]
        if not any(isinstance(child, Branches) for child in before):
            return is_one(scale(before, 1 / factor))
    elif name == "refine":
        branch = block.expand if isinstance(block, ScaledResidualBlock) else block.branch
        assert isinstance(branch, nn.Module)
        return is_one(scale(branch, 1 / factor))
    if not insertion.is_last:
        return False
    factor = factor * (_opened(insertion) / constant)
    for module in _behind(network, insertion.path):
        if is_one(factor):
            break
        factor = absorb(module, factor)
    return is_one(factor)


def _opened(insertion: Insertion) -> float:
    """Opens a gate that has a bias. Returns its constant, which is that of every input."""
    gate = insertion.module
    if isinstance(gate, Gate):
        gate.open(OPEN)
    was_training = gate.training
    with torch.no_grad():
        like = next(gate.parameters())
        constant: float = gate.eval()(like.new_ones(1, insertion.channels, 1, 1)).mean().item()
    gate.train(was_training)
    return constant


def _behind(network: Network, path: str) -> Iterator[nn.Module]:
    """The blocks after the one with that path, and the head."""
    reached = False
    for stage, blocks in network.stages.items():
        for name, block in blocks.named_children():
            if reached:
                yield block
            reached = reached or path.startswith(f"stages.{stage}.{name}.")
    yield network.head


def _maps(network: Network, convolution: nn.Module, pictures: Pictures) -> Callable[[], Tensor]:
    """A function that gives the input of a convolution for pictures, [N, C, H, W]."""

    def maps() -> Tensor:
        found: list[Tensor] = []
        hook = convolution.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].clone()))
        try:
            _logits(network, pictures)
        finally:
            hook.remove()
        return torch.cat(found)

    return maps


def _logits(network: Network, pictures: Pictures) -> Tensor:
    was_training = network.training
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(part) for part in pictures()])
    network.train(was_training)
    return logits
