"""How other libraries name and store the weights of our networks.

A `Layout` is data: names as patterns (`nas.weights.names`), and the three ways in which the same function is stored
differently. All three are undone exactly in evaluation mode:

- their convolutions have biases where ours have none. A norm follows, so the bias goes into its running mean;
- their norms have another epsilon. The running variance takes the difference;
- a linear layer of ours is a convolution over the whole map there. Only the shape differs.

What a library computes differently is no matter of weights. `Layout.differs` says it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from torch import Tensor, nn

from nas.builder import build_model
from nas.weights.names import translator, within
from search_spaces import Architecture


@dataclass(frozen=True)
class Layout:
    """Another library's form of a family's weights."""

    names: Mapping[str, str]
    """Our modules -> theirs."""
    has_biases: bool = False
    """Whether every convolution there has a bias."""
    eps: float = 1e-5
    """Of their norms."""
    kernels: Mapping[str, int] = field(default_factory=dict)
    """Their convolutions that are linear layers here -> kernel size."""
    differs: tuple[tuple[Callable[[Any], bool], str], ...] = ()
    """(whether it concerns a skeleton, how their network computes something else than ours)."""

    @cached_property
    def translated(self) -> Callable[[str], str | None]:
        """Our name of a module -> theirs, or None."""
        return translator(self.names)


_RESNET = {
    "stem.{0,1}": "{conv1,bn1}",
    "stages.layer*.*.branch.{0,1,3,4,6,7}": "layer*.*.{conv1,bn1,conv2,bn2,conv3,bn3}",
    "stages.layer*.*.shortcut.*": "layer*.*.downsample.*",
    "head.2": "fc",
}
_STRIDE = (
    lambda skeleton: not skeleton.is_basic and skeleton.stride_on == "first",
    "the stride of a bottleneck is in its 3x3 there, and in the first 1x1 here",
)

_VGG = {
    "stages.layer{1.0.0,1.1.0,2.0.1,2.1.0,3.0.1,3.1.0,3.2.0,4.0.1,4.1.0,4.2.0,5.0.1,5.1.0,5.2.0}": (
        "features.{0,3,7,10,14,17,20,24,27,30,34,37,40}"
    ),
    "stages.layer{1.0.1,1.1.1,2.0.2,2.1.1,3.0.2,3.1.1,3.2.1,4.0.2,4.1.1,4.2.1,5.0.2,5.1.1,5.2.1}": (
        "features.{1,4,8,11,15,18,21,25,28,31,35,38,41}"
    ),
}
_ODD_MAPS = (
    lambda skeleton: skeleton.image_size % 32 != 0,
    "pools of odd maps round down there, and up here",
)

_MOBILENET = {
    "stem.{0,1}": "{conv_stem,bn1}",
    "stages.layer{1,2,3,4,5}.dw*.{0,1}": "blocks.{0,1,2,3,4}.*.{conv_dw,bn1}",
    "stages.layer{1,2,3,4,5}.pw*.{0,1}": "blocks.{0,1,2,3,4}.*.{conv_pw,bn2}",
    "head.2": "classifier",
}
_RELU6 = (lambda _: True, "activations are cut off at 6 there (ReLU6), and not here")

_MNASNET = {  # A1 has squeeze-and-excitation in layers 3, 5 and 6, before the last convolution
    "stem.{0,1}": "{conv_stem,bn1}",
    "stages.layer1.0.branch.{0,1,3,4}": "blocks.0.0.{conv_dw,bn1,conv_pw,bn2}",
    **{
        f"stages.layer{{{ours}}}.*.branch.{modules}": f"blocks.{{{theirs}}}.*.{names}"
        for ours, theirs, modules, names in (
            ("2,3,4,5,6,7", "1,2,3,4,5,6", "{0,1,3,4}", "{conv_pw,bn1,conv_dw,bn2}"),
            ("2,4,7", "1,3,6", "{6,7}", "{conv_pwl,bn3}"),
            ("3,5,6", "2,4,5", "{7,8}", "{conv_pwl,bn3}"),
            ("3,5,6", "2,4,5", "6.{reduce,expand}", "se.{conv_reduce,conv_expand}"),
        )
    },
    "head.{0,1,5}": "{conv_head,bn2,classifier}",
}

_CHAIN = {"{0,1,3,4,6,7}": "{0.conv,0.bn,1.conv,1.bn,2.conv,2.bn}"}
"""Convolutions with norm and ReLU, one after another."""
_SINGLE = {"{0,1}": "{conv,bn}"}
_RESIDUAL_INCEPTION = {
    **within("branches.branches.0", "branch0", _SINGLE),
    **within("branches.branches.{1,2}", "branch{1,2}", _CHAIN),
    "expand": "conv2d",
}
_INCEPTION_RESNET = {
    "stem.{0,3,6,10,13}": "conv2d_{1a,2a,2b,3b,4a}.conv",
    "stem.{1,4,7,11,14}": "conv2d_{1a,2a,2b,3b,4a}.bn",
    **within("stem.17.branches.0", "mixed_5b.branch0", _SINGLE),
    **within("stem.17.branches.{1,2}", "mixed_5b.branch{1,2}", _CHAIN),
    "stem.17.branches.3.{1,2}": "mixed_5b.branch3.1.{conv,bn}",
    **within("stages.layer1.*", "repeat.*", _RESIDUAL_INCEPTION),
    **within("stages.layer2.0.0.branches.0", "mixed_6a.branch0", _SINGLE),
    **within("stages.layer2.0.0.branches.1", "mixed_6a.branch1", _CHAIN),
    **within("stages.layer3.0.0.branches.{0,1,2}", "mixed_7a.branch{0,1,2}", _CHAIN),
    **within("stages.layer{2,3}.0.1", "repeat_{1,2}.0", _RESIDUAL_INCEPTION),
    **within("stages.layer3.9", "block8", _RESIDUAL_INCEPTION),
    **within("stages.layer{2,3}.*", "repeat_{1,2}.*", _RESIDUAL_INCEPTION),
    **within("head", "conv2d_7b", _SINGLE),
    "head.5": "classif",
}

LAYOUTS: Mapping[str, Mapping[str, Layout]] = {
    "resnet": {
        "torchvision": Layout(_RESNET, differs=(_STRIDE,)),
        "timm": Layout(
            _RESNET | {"stages.layer*.*.refine.{reduce,expand}": "layer*.*.se.{fc1,fc2}"}, differs=(_STRIDE,)
        ),
    },
    "vgg16": {
        "torchvision": Layout(_VGG | {"head.{3,5,7}": "classifier.{0,3,6}"}, has_biases=True, differs=(_ODD_MAPS,)),
        "timm": Layout(
            _VGG | {"head.{3,5,7}": "{pre_logits.fc1,pre_logits.fc2,head.fc}"},
            has_biases=True,
            kernels={"pre_logits.fc1": 7, "pre_logits.fc2": 1},
            differs=(_ODD_MAPS,),
        ),
    },
    "mobilenet_v1": {"timm": Layout(_MOBILENET, differs=(_RELU6,))},
    "mnasnet": {"timm": Layout(_MNASNET)},
    "inception_resnet_v2": {"timm": Layout(_INCEPTION_RESNET, eps=1e-3)},
}
"""Family -> library -> layout. A family that is not here has no counterpart: torchvision's MNASNet is B1 and ours A1,
its Inceptions are v1 and v3, and neither library has the networks for small images with pre-activation."""


def from_peer(
    tensors: Mapping[str, Tensor], layout: Layout, network: nn.Module, names: Mapping[str, object]
) -> tuple[dict[str, Tensor], list[str]]:
    """A peer's tensors in our form.

    Args:
        tensors: the peer's state dict.
        layout: the peer's form.
        network: our plain network, whose modules say what a tensor is; its values are not read.
        names: of our tensors.

    Returns:
        Our tensors, as many as the peer has, and the peer's names that were not used.
    """
    modules, found, left = dict(network.named_modules()), dict[str, Tensor](), dict.fromkeys(tensors)

    def take(module: str, leaf: str) -> Tensor | None:
        theirs = f"{layout.translated(module)}.{leaf}"
        left.pop(theirs, None)
        return tensors.get(theirs)

    for name in names:
        path, _, leaf = name.rpartition(".")
        value = take(path, leaf)
        if value is None:
            continue
        module = modules.get(path)
        if isinstance(module, nn.Linear):
            value = value.flatten(min(1, value.dim() - 1))
        if isinstance(module, nn.BatchNorm2d) and leaf == "running_var":
            value = value + (layout.eps - module.eps)
        found[name] = value
    if layout.has_biases:
        for path, module in modules.items():
            if isinstance(module, nn.Conv2d) and (bias := take(path, "bias")) is not None:
                mean = f"{_next(path)}.running_mean"
                if mean in found:
                    found[mean] = found[mean] - bias
    return found, list(left)


def to_peer(state: Mapping[str, Tensor], architecture: Architecture, peer: str) -> dict[str, Tensor]:
    """The weights of a network in the form of another library; the inverse of `load_weights`.

    Args:
        state: the network's ``state_dict()``.
        architecture: the network's.
        peer: ``torchvision`` or ``timm``.

    Returns:
        A state dict for the peer's own network. Its logits in evaluation mode are those of ours, but for what
        `Layout.differs` says.

    Raises:
        ValueError: the peer has no network of this family, or none with these placements; names them.
    """
    layout = layout_of(architecture.skeleton.family, peer)
    modules, found, unknown = dict(build_model(architecture, device="meta").named_modules()), dict[str, Tensor](), []
    for name, value in state.items():
        path, _, leaf = name.rpartition(".")
        theirs, module = layout.translated(path), modules[path]
        if theirs is None:
            unknown.append(name)
            continue
        written = value
        if leaf == "weight" and theirs in layout.kernels:
            written = value.view(len(value), -1, layout.kernels[theirs], layout.kernels[theirs])
        elif isinstance(module, nn.BatchNorm2d) and leaf == "running_var":
            written = value + (module.eps - layout.eps)
        found[f"{theirs}.{leaf}"] = written
        if layout.has_biases and isinstance(module, nn.Conv2d):
            found[f"{theirs}.bias"] = value.new_zeros(len(value))
    if unknown:
        raise ValueError(
            f"{peer} has no name for {unknown[0]}" + (f" and {len(unknown) - 1} more" if unknown[1:] else "") + "; "
            "take the plain network, or write these weights as they are"
        )
    return found


to_torchvision = partial(to_peer, peer="torchvision")


def layout_of(family: str, peer: str) -> Layout:
    """A row of `LAYOUTS`. Raises ValueError, which names the remedy, if there is none."""
    layouts = LAYOUTS.get(family, {})
    if peer not in layouts:
        others = f"; {' and '.join(layouts)} has one" if layouts else ""
        raise ValueError(f"{peer} has no network of the family {family}{others}")
    return layouts[peer]


def _next(path: str) -> str:
    """The module after one of a Sequential."""
    parent, _, index = path.rpartition(".")
    return f"{parent}.{int(index) + 1}"
