"""What operators show is what they compute with; the contract finds what is not so."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nas.operators import OPERATORS, Attention, ChannelGates, Maps, SpatialGates
from nas.operators.aa import AAConv2d
from nas.operators.gc import Context
from nas.operators.non_local import NonLocal
from nas.operators.testing import check_shows
from search_spaces.options import OPTIONS, resolve
from search_spaces.sites import SLOTS, Site, Value


def shown(name: str, size: tuple[int, int] = (5, 4), **params: Value) -> tuple[nn.Module, Tensor, Maps]:
    """An operator with random parameters, a map, and what it shows of it."""
    option = OPTIONS[name]
    slot = next(slot for slot in SLOTS if slot in option.slots)
    site = Site(slot, 16, 16, size=5, kernel_size=3 if slot == "conv" else 1)
    torch.manual_seed(3)
    module = OPERATORS[name].build(site, resolve(option, params, site)).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    x = torch.randn(2, 16, *size, dtype=torch.float64)
    shows = OPERATORS[name].shows
    assert shows is not None
    return module.requires_grad_(False), x, shows(module, x)


def gates(maps: Maps) -> Tensor:
    """The product of all gates, [N, C or 1, H or 1, W or 1]."""
    product = torch.ones((), dtype=torch.float64)
    for one in maps.values():
        assert isinstance(one, ChannelGates | SpatialGates)
        product = product * (one.values[:, :, None, None] if isinstance(one, ChannelGates) else one.values)
    return product


@pytest.mark.parametrize("name", ["se", "ge", "cbam"])
def test_an_input_times_its_shown_gates_is_the_output(name: str) -> None:
    module, x, maps = shown(name)
    assert gates(maps).std() > 0.05
    torch.testing.assert_close(x * gates(maps), module(x))


@pytest.mark.parametrize("name", ["no_squeeze", "bam", "gala"])
def test_a_factor_of_both_is_shown_by_its_means(name: str) -> None:
    module, x, maps = shown(name)
    factor = module(x) / x
    channels, positions = maps["channels"], maps["positions"]
    assert isinstance(channels, ChannelGates)
    assert isinstance(positions, SpatialGates)
    torch.testing.assert_close(channels.values, factor.mean((2, 3)))
    torch.testing.assert_close(positions.values, factor.mean(1, keepdim=True))


def attention(maps: Maps) -> tuple[Attention, Tensor]:
    """The attention, and all its weights."""
    found = maps["attention"]
    assert isinstance(found, Attention)
    return found, found.weights(torch.arange(found.query.shape[2]))


@pytest.mark.parametrize("position", ["relative", "none"])
def test_values_mixed_by_shown_attention_are_the_output_of_aa(position: str) -> None:
    module, x, maps = shown("aa", position=position, upsilon=1.0)
    assert isinstance(module, AAConv2d)
    found, weights = attention(maps)
    assert found.queries == found.keys == (5, 4)
    value = module.qkv(x)[:, 2 * module.d_k :].reshape(2, module.heads, -1, 20)
    mixed = torch.einsum("nhqk,nhdk->nhdq", weights, value).reshape(2, -1, 5, 4)
    torch.testing.assert_close(module.projection(mixed), module(x))


@pytest.mark.parametrize("sub_sample", [False, True])
@pytest.mark.parametrize("pairwise", ["gaussian", "embedded_gaussian"])
def test_values_mixed_by_shown_attention_are_what_non_local_adds(pairwise: str, sub_sample: bool) -> None:
    module, x, maps = shown("non_local", pairwise=pairwise, sub_sample=sub_sample)
    assert isinstance(module, NonLocal)
    found, weights = attention(maps)
    assert (found.queries, found.keys) == ((5, 4), (2, 2) if sub_sample else (5, 4))
    value = module.g(module.source(x)).flatten(2)
    mixed = torch.einsum("nqk,ndk->ndq", weights[:, 0], value).reshape(2, -1, 5, 4)
    torch.testing.assert_close(x + module.norm(module.out(mixed)), module(x))


@pytest.mark.parametrize("pairwise", ["dot_product", "concatenation"])
def test_pairs_that_are_no_distribution_are_not_shown(pairwise: str) -> None:
    assert shown("non_local", pairwise=pairwise)[2] == {}


@pytest.mark.parametrize("name", ["gc", "snl"])
def test_the_context_is_the_mean_by_shown_attention(name: str) -> None:
    module, x, maps = shown(name)
    assert isinstance(module, Context)
    found, weights = attention(maps)
    assert (found.queries, found.keys) == ((1, 1), (5, 4))
    context = torch.einsum("nk,nck->nc", weights[:, 0, 0], x.flatten(2))
    torch.testing.assert_close(x + module.transform(context)[:, :, None, None], module(x))


def test_received_attention_is_the_mean_over_queries_also_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.operators.shown._LOGITS", 60)  # three queries at a time
    found, weights = attention(shown("aa")[2])
    torch.testing.assert_close(found.received(), weights.mean(2))


def test_aw_shows_the_mean_factor_of_each_kernel() -> None:
    _, _, maps = shown("aw")
    channels = maps["channels"]
    assert isinstance(channels, ChannelGates)
    assert channels.values.shape == (2, 16)
    assert (channels.low, channels.high) == (1, 2)
    assert channels.values.std() > 0.02


SITE = Site("refine", 16, 16, size=5)
RESOLVED = resolve(OPTIONS["se"], {}, SITE)


def changed(module: nn.Module, x: Tensor) -> Maps:
    x.mul_(2)
    return {}


def trained(module: nn.Module, x: Tensor) -> Maps:
    next(module.parameters()).mul_(2)
    return {}


def hooked(module: nn.Module, x: Tensor) -> Maps:
    module.register_forward_hook(lambda *args: None)
    return {}


def wild(module: nn.Module, x: Tensor) -> Maps:
    return {"channels": ChannelGates(x.mean((2, 3)) + 2)}


def flat(module: nn.Module, x: Tensor) -> Maps:
    return {"positions": SpatialGates(x.mean(1).sigmoid())}


def few(module: nn.Module, x: Tensor) -> Maps:
    return {"attention": Attention(x.flatten(2)[:, None], x.flatten(2)[:, None], (5, 5), (5, 5))}


@pytest.mark.parametrize(
    ("shows", "why"),
    [
        (changed, "changes the input"),
        (trained, "changes the output"),
        (hooked, "hooks behind"),
        (wild, "leave 0-1"),
        (flat, "3 dimensions, not 4"),
        (few, "query"),
    ],
)
def test_the_contract_finds(shows: Callable[[nn.Module, Tensor], Maps], why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        check_shows(replace(OPERATORS["se"], shows=shows), SITE, RESOLVED)


def test_an_operator_need_not_show_anything() -> None:
    check_shows(replace(OPERATORS["se"], shows=None), SITE, RESOLVED)
    assert {name for name, operator in OPERATORS.items() if operator.shows is None} == {"plain", "none"}
