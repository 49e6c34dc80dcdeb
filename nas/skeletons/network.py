"""The network that every family builds, and its fixed parts: each beside its cost in integers."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Protocol

from torch import Tensor, nn

from nas.operators import Cost
from search_spaces.sites import Slot


class Place(Protocol):
    """Builds what the architecture has put in a slot of a block; a skeleton asks once for every slot it opens."""

    def __call__(self, block: str, slot: Slot) -> nn.Module: ...


class Network(nn.Module):
    """Stem, stages and head, in that order. Submodules are named as blocks are: ``stages.layer2.0``."""

    def __init__(self, stem: nn.Module, stages: Mapping[str, nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleDict(stages)
        self.head = head

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The output of every stage by its name, the last one as the head takes it.

        Args:
            images: [batch, in_channels, H, W]; H and W need not be the skeleton's ``image_size``.
        """
        maps = {}
        x = self.stem(images)
        for name, stage in self.stages.items():
            x = maps[name] = stage(x)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """[batch, in_channels, H, W] -> logits [batch, num_classes]."""
        x = self.stem(images)
        for stage in self.stages.values():
            x = stage(x)
        logits: Tensor = self.head(x)
        return logits


def stages(blocks: Iterable[tuple[str, nn.Module]]) -> dict[str, nn.Module]:
    """Blocks by name (``layer2.0``) -> stages by name, each a Sequential of its blocks in order."""
    grouped: dict[str, OrderedDict[str, nn.Module]] = {}
    for name, block in blocks:
        stage, _, index = name.partition(".")
        grouped.setdefault(stage, OrderedDict())[index] = block
    return {stage: nn.Sequential(members) for stage, members in grouped.items()}


def conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution with "same" padding, initialised for the ReLU behind it (He et al., 2015; fan-out)."""
    layer = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=bias
    )
    if not layer.weight.is_meta:
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer


def conv_cost(
    in_channels: int, out_channels: int, kernel_size: int, out_size: int, groups: int = 1, bias: bool = False
) -> Cost:
    """Of `conv` on a map whose output has side ``out_size``."""
    weights = in_channels // groups * out_channels * kernel_size**2
    return Cost(weights + bias * out_channels, weights * out_size**2)


def norm_cost(channels: int) -> Cost:
    """Of a BatchNorm2d with scale and shift; normalising multiplies nothing that FLOP counters count."""
    return Cost(2 * channels, 0)


def pooled_classifier(in_channels: int, num_classes: int) -> nn.Sequential:
    """Global average pool and a linear layer: [batch, C, H, W] -> [batch, num_classes]."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(in_channels, num_classes))


def linear_cost(in_features: int, out_features: int) -> Cost:
    """Of a linear layer with bias, applied once."""
    return Cost((in_features + 1) * out_features, in_features * out_features)
