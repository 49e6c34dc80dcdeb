"""How to build the network of each skeleton family in `search_spaces.FAMILIES`, and what its fixed parts cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nas.operators import Cost
from nas.skeletons import (
    bn_inception,
    inception_resnet_v2,
    mnasnet,
    mobilenet_v1,
    preresnet,
    resnet,
    vgg16,
    wide_resnet,
)
from nas.skeletons.network import Network, Place


@dataclass(frozen=True, slots=True)
class Family:
    """``build(skeleton, place)`` makes the network; ``cost(skeleton)`` is the cost of everything outside the slots.

    ``skeleton`` is an instance of the family's class in `search_spaces.FAMILIES`.
    """

    build: Callable[[Any, Place], Network]
    cost: Callable[[Any], Cost]


SKELETONS: Mapping[str, Family] = {
    "resnet": Family(resnet.build, resnet.cost),
    "wide_resnet": Family(wide_resnet.build, wide_resnet.cost),
    "preresnet": Family(preresnet.build, preresnet.cost),
    "mnasnet": Family(mnasnet.build, mnasnet.cost),
    "mobilenet_v1": Family(mobilenet_v1.build, mobilenet_v1.cost),
    "vgg16": Family(vgg16.build, vgg16.cost),
    "bn_inception": Family(bn_inception.build, bn_inception.cost),
    "inception_resnet_v2": Family(inception_resnet_v2.build, inception_resnet_v2.cost),
}
"""One row per family. A test compares the names with `search_spaces.FAMILIES`."""

__all__ = ["SKELETONS", "Family", "Network", "Place"]
