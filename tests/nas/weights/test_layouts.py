"""With a peer's random weights, our networks give the peer's logits, and back."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas import build_model
from nas.weights import LAYOUTS, Weights, load_weights, to_peer
from search_spaces import Architecture, parse_architecture

CLASSES = 7


def architecture(skeleton: str, image_size: int = 32, placements: str = "{}") -> Architecture:
    return parse_architecture(
        f"{{schema: 1, skeleton: {{image_size: {image_size}, num_classes: {CLASSES}, {skeleton}}}, "
        f"placements: {placements}}}",
        "test",
    )


def torchvision(name: str, **arguments: Any) -> nn.Module:
    network: nn.Module = import_module("torchvision.models").get_model(name, num_classes=CLASSES, **arguments)
    return network


def timm(name: str) -> nn.Module:
    network: nn.Module = pytest.importorskip("timm").create_model(name, num_classes=CLASSES)
    return network


def narrow(vgg: nn.Module, **layers: nn.Module) -> nn.Module:
    """A VGG with 16 channels in its last layers: with 4,096, a test would take a minute."""
    for path, layer in layers.items():
        parent, _, name = path.replace("__", ".").rpartition(".")
        setattr(vgg.get_submodule(parent), name, layer)
    return vgg


def stride_first(network: nn.Module) -> nn.Module:
    """torchvision's bottlenecks with the stride in the first 1x1, as in the papers."""
    for block in network.modules():
        if hasattr(block, "conv3") and block.stride != 1:
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return network


def without_limit(network: nn.Module) -> nn.Module:
    """ReLU in place of ReLU6."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(module, name, nn.ReLU())
    return network


SE = "{'*': {refine: {se: {reduction: 16, bias: true}}}}"
PEERS: Mapping[str, tuple[str, Architecture, Callable[[], nn.Module]]] = {
    "resnet18": ("torchvision", architecture("family: resnet, depth: 18"), lambda: torchvision("resnet18")),
    "resnet50": ("torchvision", architecture("family: resnet, depth: 50"), lambda: torchvision("resnet50")),
    "resnet50 v1": (
        "torchvision",
        architecture("family: resnet, depth: 50, stride_on: first"),
        lambda: stride_first(torchvision("resnet50")),
    ),
    "resnext50": (
        "torchvision",
        architecture("family: resnet, depth: 50, groups: 32, width_per_group: 4"),
        lambda: torchvision("resnext50_32x4d"),
    ),
    "resnext50 v1": (
        "torchvision",
        architecture("family: resnet, depth: 50, groups: 32, width_per_group: 4, stride_on: first"),
        lambda: stride_first(torchvision("resnext50_32x4d")),
    ),
    "wide resnet50": (
        "torchvision",
        architecture("family: resnet, depth: 50, width_per_group: 128"),
        lambda: torchvision("wide_resnet50_2"),
    ),
    "vgg16": (
        "torchvision",
        architecture("family: vgg16, hidden: 16"),
        lambda: narrow(
            torchvision("vgg16_bn", init_weights=False),
            classifier__0=nn.Linear(512 * 49, 16),
            classifier__3=nn.Linear(16, 16),
            classifier__6=nn.Linear(16, CLASSES),
        ),
    ),
    "timm resnet50": ("timm", architecture("family: resnet, depth: 50"), lambda: timm("resnet50")),
    "timm se resnet50": (
        "timm",
        architecture("family: resnet, depth: 50", placements=SE),
        lambda: timm("seresnet50"),
    ),
    "timm vgg16": (
        "timm",
        architecture("family: vgg16, hidden: 16"),
        lambda: narrow(
            timm("vgg16_bn"),
            pre_logits__fc1=nn.Conv2d(512, 16, 7),
            pre_logits__fc2=nn.Conv2d(16, 16, 1),
            head__fc=nn.Linear(16, CLASSES),
        ),
    ),
    "timm mobilenet": ("timm", architecture("family: mobilenet_v1"), lambda: without_limit(timm("mobilenetv1_100"))),
    "timm mnasnet": ("timm", architecture("family: mnasnet"), lambda: timm("semnasnet_100")),
    "timm mnasnet 0.75": ("timm", architecture("family: mnasnet, widen: 0.75"), lambda: timm("semnasnet_075")),
    "timm inception": (
        "timm",
        architecture("family: inception_resnet_v2", image_size=80),
        lambda: timm("inception_resnet_v2"),
    ),
}


def error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize(("peer", "ours", "build"), PEERS.values(), ids=PEERS)
def test_logits_are_those_of_the_peer_and_back(
    peer: str,
    ours: Architecture,
    build: Callable[[], nn.Module],
    randomised: Callable[[nn.Module], nn.Module],
) -> None:
    theirs, network = randomised(build()), build_model(ours).eval()
    told = load_weights(network, ours, Weights("a file", theirs.state_dict()))
    assert (told.new, told.left) == ((), ())
    size = ours.skeleton.image_size
    images = torch.rand(2, 3, size, size)
    with torch.inference_mode():
        assert error(network(images), theirs(images)) <= 1e-5
    network.double(), theirs.double()
    load_weights(network, ours, Weights("a file", theirs.state_dict(), peer))
    with torch.inference_mode():
        logits = network(images.double())
        assert error(logits, theirs(images.double())) <= 1e-9
        theirs.load_state_dict(to_peer(randomised(network).state_dict(), ours, peer))
        assert error(network(images.double()), theirs(images.double())) <= 1e-9


def test_every_layout_has_a_test() -> None:
    tested = {(ours.skeleton.family, peer) for peer, ours, _ in PEERS.values()}
    assert tested == {(family, peer) for family, peers in LAYOUTS.items() for peer in peers}
