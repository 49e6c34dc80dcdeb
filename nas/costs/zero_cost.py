"""Zero-cost proxies: figures from an untrained network's gradients and activations that may indicate its accuracy.

The search never uses them as a filter. On a space of placements, the number of parameters gives most of the same
information. So `nas proxies` prints their rank correlations with parameters and multiply-adds beside them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nas.builder import build_model
from nas.skeletons import Network
from search_spaces import Architecture

_WEIGHTED = (nn.Conv2d, nn.Linear)


def synflow(network: Network, images: Tensor, _labels: Tensor) -> float:
    """Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow", NeurIPS 2020.

    log10 of the sum over parameters of |theta dR / dtheta|, where R is the sum of the logits of an image of ones and
    every parameter is replaced by its magnitude. Normalisation uses the initial statistics, mean 0 and variance 1, so
    it passes its input on. Computed in float64, because products over the depth leave the range of float32.
    """
    network = network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    logits = network(torch.ones_like(images[:1], dtype=torch.float64))
    return math.log10(_saliency(logits.sum(), list(network.parameters())))


def snip(network: Network, images: Tensor, labels: Tensor) -> float:
    """Lee et al., "SNIP: Single-shot network pruning based on connection sensitivity", ICLR 2019.

    The sum over the weights of convolutions and linear layers of |theta dL / dtheta|, where L is the batch's cross
    entropy.
    """
    return _saliency(F.cross_entropy(network(images), labels), _weights(network))


def zico(network: Network, images: Tensor, labels: Tensor) -> float:
    """Li et al., "ZiCo: Zero-shot NAS via inverse coefficient of variation on gradients", ICLR 2023, eq. 14.

    sum over layers of log(sum over weights of mean(|g|) / std(|g|)), where g is the gradient of the cross entropy on a
    part of the batch. There are four parts, or fewer so that each has at least two images.
    """
    parts = max(2, min(4, len(images) // 2))
    weights = _weights(network)
    gradients: list[list[Tensor]] = []
    for part, targets in zip(images.chunk(parts), labels.chunk(parts), strict=True):
        loss = F.cross_entropy(network(part), targets)
        gradients.append([gradient.abs() for gradient in torch.autograd.grad(loss, weights)])
    total = 0.0
    for layer in zip(*gradients, strict=True):
        stacked = torch.stack(layer).double()
        mean, deviation = stacked.mean(0), stacked.std(0, correction=0)
        varying = deviation > 0  # weights whose input is always 0 are left out, and layers of such weights
        if bool(varying.any()):
            total += math.log(float((mean[varying] / deviation[varying]).sum()))
    return total


def naswot(network: Network, images: Tensor, _labels: Tensor) -> float:
    """Mellor et al., "Neural architecture search without training", ICML 2021, eq. 2.

    log |det K|, where K[i, j] is the number of ReLUs with the same state (on or off) for images i and j.
    """
    with _Relus(len(images)) as relus, torch.no_grad():
        network(images)
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64)
    for codes in relus.codes:
        on = codes.double()
        kernel += on @ on.T + (1 - on) @ (1 - on).T
    return float(torch.linalg.slogdet(kernel).logabsdet)


PROXIES: Mapping[str, Callable[[Network, Tensor, Tensor], float]] = MappingProxyType(
    {"synflow": synflow, "naswot": naswot, "zico": zico, "snip": snip}
)
"""Name -> (network, images [N, C, H, W], labels [N]) -> a figure; larger should be better. Do not use the network
afterwards."""


def zero_cost(architecture: Architecture, images: Tensor, labels: Tensor, *, seed: int = 0) -> dict[str, float]:
    """All proxies of an architecture, each on a new network with the same initial weights.

    Args:
        architecture: the architecture.
        images: [N, C, H, W], normalised as for training; N at least 4.
        labels: [N].
        seed: seed of the weights.

    Raises:
        ValueError: there are fewer than 4 images.
    """
    if len(images) < 4:
        raise ValueError(f"{len(images)} images are too few for zero-cost proxies; give at least 4, better 32")
    found = {}
    for name, proxy in PROXIES.items():
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            network = build_model(architecture).to(images.device)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)  # a residual branch that is initialised to zero would have no effect
        found[name] = proxy(network, images, labels)
    return found


def _weights(network: Network) -> list[Tensor]:
    return [module.weight for module in network.modules() if isinstance(module, _WEIGHTED)]


def _saliency(goal: Tensor, parameters: Sequence[Tensor]) -> float:
    """The sum of |theta dgoal / dtheta|; a parameter that the goal does not depend on adds nothing."""
    gradients = torch.autograd.grad(goal, parameters, allow_unused=True)
    return sum(
        float((parameter.detach() * gradient).abs().sum(dtype=torch.float64))
        for parameter, gradient in zip(parameters, gradients, strict=True)
        if gradient is not None
    )


class _Relus(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records which units are on, [N, units], for every ReLU whose input has one row per image."""

    def __init__(self, images: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.images = images
        self.codes: list[Tensor] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        _types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # whatever the operation returns
        out = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.relu.default, torch.ops.aten.relu_.default) and len(out) == self.images:
            self.codes.append((out > 0).flatten(1))
        return out
