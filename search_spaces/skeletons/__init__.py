"""The skeleton families: the fields of each, and the blocks and slots that they give."""

from collections.abc import Mapping

from search_spaces.skeletons.base import Skeleton
from search_spaces.skeletons.bn_inception import BNInception
from search_spaces.skeletons.inception_resnet_v2 import InceptionResNetV2
from search_spaces.skeletons.mnasnet import MnasNet
from search_spaces.skeletons.mobilenet_v1 import MobileNetV1
from search_spaces.skeletons.preresnet import PreResNet
from search_spaces.skeletons.resnet import ResNet
from search_spaces.skeletons.vgg16 import VGG16
from search_spaces.skeletons.wide_resnet import WideResNet

FAMILIES: Mapping[str, type[Skeleton]] = {
    "resnet": ResNet,
    "wide_resnet": WideResNet,
    "preresnet": PreResNet,
    "mnasnet": MnasNet,
    "mobilenet_v1": MobileNetV1,
    "vgg16": VGG16,
    "bn_inception": BNInception,
    "inception_resnet_v2": InceptionResNetV2,
}
"""``family`` in a file -> its declaration. `nas.skeletons.SKELETONS` has the modules and costs of the same families."""

__all__ = [
    "FAMILIES",
    "VGG16",
    "BNInception",
    "InceptionResNetV2",
    "MnasNet",
    "MobileNetV1",
    "PreResNet",
    "ResNet",
    "Skeleton",
    "WideResNet",
]
