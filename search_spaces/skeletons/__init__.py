"""The skeleton families: what each can be told, and the blocks and slots that it opens."""

from collections.abc import Mapping

from search_spaces.skeletons.base import Skeleton
from search_spaces.skeletons.resnet import ResNet

FAMILIES: Mapping[str, type[Skeleton]] = {
    "resnet": ResNet,
}
"""``family`` in a file -> its declaration. `nas.skeletons.SKELETONS` holds the other half."""

__all__ = ["FAMILIES", "Skeleton"]
