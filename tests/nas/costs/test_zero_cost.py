"""Compares each proxy, on a small network, with an independent computation of its formula."""

import math
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.costs.zero_cost import PROXIES, naswot, snip, synflow, zero_cost, zico
from nas.skeletons import Network
from search_spaces import load_space


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(4, 3, 1, bias=False),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(3 * 16, 5, bias=False),
    )
    return cast("Network", layers)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(8, 2, 4, 4), torch.arange(8) % 5


def test_synflow_is_conserved_from_layer_to_layer(network: Network, batch: tuple[Tensor, Tensor]) -> None:
    with torch.no_grad():
        flow = torch.ones(1, 2, 4, 4, dtype=torch.float64)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                flow = F.conv2d(flow, module.weight.double().abs(), padding=module.padding)
            elif isinstance(module, nn.Linear):
                flow = F.linear(flow.flatten(1), module.weight.double().abs())
    # Without biases every layer's sum of |theta dR / dtheta| is R itself (Tanaka et al., theorem 1).
    assert synflow(network, *batch) == pytest.approx(math.log10(3 * float(flow.sum())))


def test_snip_is_the_first_order_loss_of_removing_weights(network: Network, batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]

    def loss(masks: Tensor) -> Tensor:
        a, b, c = masks.split([weight.numel() for weight in weights])
        x = F.relu(F.conv2d(images, weights[0] * a.view_as(weights[0]), padding=1))
        x = F.relu(F.conv2d(x, weights[1] * b.view_as(weights[1])))
        return F.cross_entropy(F.linear(x.flatten(1), weights[2] * c.view_as(weights[2])), labels)

    by_mask = torch.autograd.functional.jacobian(loss, torch.ones(sum(weight.numel() for weight in weights)))
    assert snip(network, images, labels) == pytest.approx(float(by_mask.abs().sum()), rel=1e-5)


def test_zico_is_mean_over_deviation_of_the_parts(network: Network, batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    gradients = []
    for part in range(4):
        network.zero_grad()
        F.cross_entropy(network(images[2 * part : 2 * part + 2]), labels[2 * part : 2 * part + 2]).backward()
        gradients.append([parameter.grad.abs().flatten().tolist() for parameter in network.parameters()])  # type: ignore[union-attr]
    expected = 0.0
    for layer in range(3):
        total = 0.0
        for values in zip(*(gradient[layer] for gradient in gradients), strict=True):
            mean = sum(values) / 4
            deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 4)
            total += mean / deviation if deviation else 0.0
        expected += math.log(total)
    assert zico(network, images, labels) == pytest.approx(expected, rel=1e-4)


def test_naswot_counts_units_that_agree(network: Network, batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    codes: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _module, _inputs, out: codes.append((out > 0).flatten(1)))
    network(images)
    on = torch.cat(codes, 1)
    agreeing = torch.tensor([[float((a == b).sum()) for b in on] for a in on], dtype=torch.float64)
    assert naswot(network, images, labels) == pytest.approx(float(torch.logdet(agreeing)))


def test_every_proxy_of_every_hand_placement_is_a_number_and_repeats() -> None:
    space = load_space("shapes")
    torch.manual_seed(0)
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8) % 2
    before = torch.random.get_rng_state()
    found = {name: zero_cost(a, images, labels) for name, a in space.baselines().items()}
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(list(figures) == list(PROXIES) for figures in found.values())
    assert all(math.isfinite(figure) for figures in found.values() for figure in figures.values())
    assert zero_cost(space.plain(), images, labels) == found["plain"]
    assert all(found["plain"][name] != found["aa"][name] for name in PROXIES)


def test_a_batch_may_be_too_small() -> None:
    with pytest.raises(ValueError, match="3 images are too few"):
        zero_cost(load_space("shapes").plain(), torch.zeros(3, 3, 32, 32), torch.zeros(3, dtype=torch.long))
