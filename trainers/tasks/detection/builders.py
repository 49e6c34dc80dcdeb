"""Detectors on any architecture: RetinaNet, Faster R-CNN with FPN and SSD300, through torchvision's detection package.

Papers: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, https://arxiv.org/abs/1708.02002; Lin et al.,
"Feature Pyramid Networks", CVPR 2017, https://arxiv.org/abs/1612.03144; Liu et al., "SSD", ECCV 2016,
https://arxiv.org/abs/1512.02325. Consulted: torchvision's builders, and tensorflow/tpu's RetinaNet for the rows of the
AA paper's table 5 (``retinanet(..., scales=2, norm=True)``).

The last block at each stride feeds the detector, even inside a stage. The models are torchvision's: in training they
take images and targets and return losses; in evaluation they take images and return boxes, labels and scores. Images
may differ in size from one another and from the skeleton's ``image_size``.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.ops import MultiScaleRoIAlign

from nas import build_model
from nas.skeletons import Network
from search_spaces import Architecture

PYRAMID = 256
"""Channels of every level of a feature pyramid."""

_RATIOS = (0.5, 1.0, 2.0)

_LARGE = 4096
"""Side of an image that is large enough to read strides from its map sizes, also for convolutions without padding."""


def retinanet(
    architecture: Architecture,
    num_classes: int,
    *,
    network: Network | None = None,
    scales: int = 3,
    norm: bool = False,
    **options: Any,
) -> nn.Module:
    """RetinaNet: maps of stride 8 to 32, levels P3 to P7, P6 from P5.

    Args:
        architecture: the backbone.
        num_classes: one sigmoid each; labels start at 0. torchvision counts a background class that is never used.
        network: the backbone's trained network, if there is one; its classifier is not used.
        scales: anchor sizes per octave, with three aspect ratios each.
        norm: BN on every level of the pyramid; in the heads, one BN per level between the shared convolutions.
        options: options of torchvision's ``RetinaNet`` (``min_size``, ``score_thresh``, ...).

    Raises:
        ValueError: the skeleton has no map of stride 8.
    """
    backbone = Pyramid(architecture, network, strides=(8, 16, 32), levels=5, norm=norm, what="RetinaNet")
    sizes = tuple(
        tuple(int(4 * stride * 2 ** (scale / scales)) for scale in range(scales)) for stride in (8, 16, 32, 64, 128)
    )
    anchors = AnchorGenerator(sizes, (_RATIOS,) * len(sizes))
    head = RetinaNetHead(PYRAMID, scales * len(_RATIOS), num_classes)
    return RetinaNet(  # type: ignore[no-any-return]
        backbone,
        num_classes,
        anchor_generator=anchors,
        head=LevelNormHead(head, len(sizes)) if norm else head,
        **_normalised(architecture, options),
    )


def faster_rcnn(
    architecture: Architecture,
    num_classes: int,
    *,
    network: Network | None = None,
    **options: Any,
) -> nn.Module:
    """Faster R-CNN with a feature pyramid: maps of stride 4 (if there is one) to 32, and one more for proposals.

    Args:
        architecture: the backbone.
        num_classes: background, which is label 0, included.
        network: the backbone's trained network, if there is one; its classifier is left out.
        options: options of torchvision's ``FasterRCNN`` (``min_size``, ``box_score_thresh``, ...).

    Raises:
        ValueError: the skeleton has no map of stride 8.
    """
    backbone = Pyramid(architecture, network, strides=(4, 8, 16, 32), subsampled=True, what="Faster R-CNN")
    sizes = tuple((8 * stride,) for stride in backbone.strides)
    pooled = [str(level) for level in range(len(sizes) - 1)]
    return FasterRCNN(  # type: ignore[no-any-return]
        backbone,
        num_classes,
        rpn_anchor_generator=AnchorGenerator(sizes, (_RATIOS,) * len(sizes)),
        box_roi_pool=MultiScaleRoIAlign(featmap_names=pooled, output_size=7, sampling_ratio=2),
        **_normalised(architecture, options),
    )


def ssd300(
    architecture: Architecture,
    num_classes: int,
    *,
    network: Network | None = None,
    **options: Any,
) -> nn.Module:
    """SSD at 300x300: the backbone's maps of 38, 19 and 10 and further ones down to 1, six in all.

    Deviation from the paper on VGG-16: the 19x19 map is the last stage's, without fc6 and fc7. The 38x38 map is not
    rescaled, because BN already does it.

    Args:
        architecture: the backbone.
        num_classes: background, which is label 0, included.
        network: the backbone's trained network, if there is one; its classifier is left out.
        options: options of torchvision's ``SSD`` (``score_thresh``, ``iou_thresh``, ...).

    Raises:
        ValueError: the skeleton has no map of stride 8.
    """
    boxes = DefaultBoxGenerator(
        [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
        steps=[8, 16, 32, 64, 100, 300],
    )
    return SSD(  # type: ignore[no-any-return]
        SSDMaps(architecture, network),
        boxes,
        (300, 300),
        num_classes,
        **_normalised(architecture, options),
    )


DETECTORS: Mapping[str, Callable[..., nn.Module]] = {
    "retinanet": retinanet,
    "faster_rcnn": faster_rcnn,
    "ssd300": ssd300,
}
"""Name -> builder, each called with an architecture and a number of classes."""


def _normalised(architecture: Architecture, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with a mean and a standard deviation; torchvision's defaults are only for three channels."""
    channels = architecture.skeleton.in_channels
    if channels == 3:
        return dict(options)
    return {"image_mean": [0.5] * channels, "image_std": [0.25] * channels, **options}


# --- backbones --------------------------------------------------------------------------------------------------------


def strided_blocks(architecture: Architecture) -> dict[int, tuple[str, int]]:
    """Stride -> (name, channels) of the last block with that output stride, from fine to coarse.

    Strides are computed with a large image, because a map of one or two pixels fits several strides.
    """
    found = {}
    for block in architecture.skeleton.model_copy(update={"image_size": _LARGE}).blocks():
        site = block.sites["after"]
        found[2 ** round(math.log2(_LARGE / site.size))] = (block.name, site.out_channels)
    return found


class Maps(nn.Module):
    """A network without its head: images -> the maps of some strides, from fine to coarse."""

    def __init__(
        self, architecture: Architecture, network: Network | None, strides: Sequence[int], *, what: str
    ) -> None:
        super().__init__()
        blocks = strided_blocks(architecture)
        if 8 not in blocks:
            raise ValueError(
                f"{what} needs a map of stride 8, and this {architecture.skeleton.family} has maps of "
                f"stride {', '.join(map(str, blocks))}; use a skeleton for larger images (resnet: stem: imagenet)"
            )
        self.strides = [stride for stride in strides if stride in blocks]
        self.channels = [blocks[stride][1] for stride in self.strides]
        self.names = [blocks[stride][0] for stride in self.strides]
        network = build_model(architecture) if network is None else network
        self.stem = network.stem
        self.stages = network.stages

    def forward(self, images: Tensor) -> list[Tensor]:
        """[N, C, H, W] -> per stride [N, channels[i], ceil(H / strides[i]), ceil(W / strides[i])]."""
        x, maps = self.stem(images), []
        for stage, blocks in self.stages.items():
            for member, block in blocks.named_children():
                x = block(x)
                if f"{stage}.{member}" in self.names:
                    maps.append(x)
        return maps


class Pyramid(nn.Module):
    """A feature pyramid that adds coarse maps to fine ones: images -> levels with `PYRAMID` channels, by number.

    Args:
        architecture: the backbone.
        network: its network; None builds one.
        strides: strides of the maps; those that the backbone lacks are skipped, but 8 is required.
        levels: minimum number of levels. 3x3 convolutions of stride 2 add missing levels after the last map.
        subsampled: adds one level with every second pixel of the last.
        norm: BN on every level.
        what: the detector's name for errors.
    """

    def __init__(
        self,
        architecture: Architecture,
        network: Network | None,
        *,
        strides: Sequence[int],
        levels: int = 0,
        subsampled: bool = False,
        norm: bool = False,
        what: str,
    ) -> None:
        super().__init__()
        self.maps = Maps(architecture, network, strides, what=what)
        self.out_channels = PYRAMID
        self.subsampled = subsampled
        channels = self.maps.channels
        self.lateral = nn.ModuleList(_conv(count, 1) for count in channels)
        self.smooth = nn.ModuleList(_conv(PYRAMID, 3) for _ in channels)
        self.extra = nn.ModuleList(_conv(PYRAMID, 3, stride=2) for _ in range(levels - len(channels)))
        count = len(self.smooth) + len(self.extra)
        self.norms = nn.ModuleList(nn.BatchNorm2d(PYRAMID) if norm else nn.Identity() for _ in range(count))

    @property
    def strides(self) -> list[int]:
        """The levels' strides, from fine to coarse."""
        strides = list(self.maps.strides)
        for _ in range(len(self.extra) + self.subsampled):
            strides.append(2 * strides[-1])
        return strides

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[N, C, H, W] -> {"0": [N, PYRAMID, H / strides[0], W / strides[0]], "1": ...}."""
        laterals = [layer(x) for layer, x in zip(self.lateral, self.maps(images), strict=True)]
        for fine in reversed(range(len(laterals) - 1)):
            coarse = F.interpolate(laterals[fine + 1], laterals[fine].shape[-2:], mode="nearest")
            laterals[fine] = laterals[fine] + coarse
        levels = [layer(x) for layer, x in zip(self.smooth, laterals, strict=True)]
        for index, layer in enumerate(self.extra):
            levels.append(layer(F.relu(levels[-1]) if index else levels[-1]))
        levels = [norm(x) for norm, x in zip(self.norms, levels, strict=True)]
        if self.subsampled:
            levels.append(F.max_pool2d(levels[-1], 1, 2))
        return OrderedDict((str(index), x) for index, x in enumerate(levels))


class SSDMaps(nn.Module):
    """The six maps of SSD300: the backbone's from stride 8 on, then those of 1x1 and 3x3 convolutions down to 1x1."""

    def __init__(self, architecture: Architecture, network: Network | None) -> None:
        super().__init__()
        self.maps = Maps(architecture, network, (8, 16, 32), what="SSD300")
        self.out_channels = list(self.maps.channels)
        self.extra = nn.ModuleList()
        size = -(-300 // self.maps.strides[-1])
        for width in (512, 512, 256, 256, 256)[-(6 - len(self.out_channels)) :]:
            shrinks = size <= 5  # too small to halve: no padding instead of a stride
            last = nn.Conv2d(width // 2, width, 3, stride=1 if shrinks else 2, padding=0 if shrinks else 1)
            layers = (nn.Conv2d(self.out_channels[-1], width // 2, 1), nn.ReLU(), last, nn.ReLU())
            self.extra.append(nn.Sequential(*layers))
            self.out_channels.append(width)
            size = size - 2 if shrinks else -(-size // 2)
        for module in self.extra.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[N, C, 300, 300] -> {"0": [N, out_channels[0], 38, 38], ..., "5": [N, 256, 1, 1]}."""
        maps = self.maps(images)
        for layer in self.extra:
            maps.append(layer(maps[-1]))
        return OrderedDict((str(index), x) for index, x in enumerate(maps))


class LevelNormHead(nn.Module):
    """RetinaNet's heads: the levels share the convolutions, but each level has its own BN between them.

    ``head`` is torchvision's; its convolutions, predictors and losses are reused.
    """

    def __init__(self, head: RetinaNetHead, levels: int) -> None:
        super().__init__()
        classes, boxes = head.classification_head, head.regression_head
        self.classify = _NormedTower(classes.conv, classes.cls_logits, levels, classes.num_classes)
        self.regress = _NormedTower(boxes.conv, boxes.bbox_reg, levels, 4)
        self.compute_loss = head.compute_loss

    def forward(self, levels: Sequence[Tensor]) -> dict[str, Tensor]:
        """[N, PYRAMID, H, W] per level -> logits [N, sum of H W anchors, classes] and offsets [N, the same, 4]."""
        return {"cls_logits": self.classify(levels), "bbox_regression": self.regress(levels)}


class _NormedTower(nn.Module):
    """Shared convolutions with one BN per level between them, and a last layer; outputs of all levels are joined."""

    def __init__(self, shared: nn.Sequential, last: nn.Module, levels: int, columns: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(pair[0] for pair in shared.children() if isinstance(pair, nn.Sequential))
        self.norms = nn.ModuleList(nn.BatchNorm2d(PYRAMID) for _ in range(levels * len(self.convs)))
        self.last = last
        self.columns = columns

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """[N, PYRAMID, H, W] per level -> [N, sum of H W anchors, columns]."""
        predictions = []
        for level, features in enumerate(levels):
            x = features
            for depth, conv in enumerate(self.convs):
                x = F.relu(self.norms[level * len(self.convs) + depth](conv(x)))
            y = self.last(x)
            y = y.reshape(y.shape[0], -1, self.columns, *y.shape[2:])  # [N, anchors, columns, H, W]
            predictions.append(y.permute(0, 3, 4, 1, 2).flatten(1, 3))
        return torch.cat(predictions, 1)


def _conv(in_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution of the pyramid, initialised as in torchvision for a layer without a ReLU after it."""
    layer = nn.Conv2d(in_channels, PYRAMID, kernel_size, stride, kernel_size // 2)
    nn.init.kaiming_uniform_(layer.weight, a=1)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
