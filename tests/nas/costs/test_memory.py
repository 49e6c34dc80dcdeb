"""Compares the pass without data with the CPU allocator."""

import random
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas import build_model
from nas.costs import Conditions, CostModel, op_results
from nas.costs.allocator import allocator_peak
from nas.costs.fake_tensors import FakeTensorMode
from nas.costs.memory import make_optimizer, run_gradients, simulate
from nas.costs.op_results import DataDependentError
from nas.costs.timing import threads
from search_spaces import Architecture, load_space

MEASURES = ("peak_memory_infer", "peak_memory_train")
CONDITIONS = {
    "as in training": {},
    "contiguous": {"channels_last": False},
    "bfloat16": {"dtype": "bfloat16"},
    "averaged": {"averaged": True},
    "adamw in parts": {"optimizer": "adamw", "micro_batches": 2, "channels_last": False},
}


@pytest.mark.parametrize("options", CONDITIONS.values(), ids=CONDITIONS.keys())
def test_agrees_with_the_allocator(options: dict[str, Any]) -> None:
    space = load_space("shapes")
    costs = CostModel(Conditions(batch_size=4, train_batch_size=4, **options))
    rng = random.Random(0)
    for architecture in (space.plain(), *(space.sample(rng) for _ in range(2))):
        for measure in MEASURES:
            estimate = costs.estimate(architecture, measure)
            measured = costs.measure(architecture, measure).value
            assert estimate.source == "analytic"
            assert estimate.value == pytest.approx(measured, rel=0.001)
            assert estimate.lower <= measured <= estimate.upper


def test_large_batches_are_extrapolated_from_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op_results, "_LARGE", 1 << 16)
    plain = load_space("shapes").plain()
    costs = CostModel(Conditions(batch_size=80))
    assert costs.estimate(plain, "peak_memory_infer").value == pytest.approx(
        costs.measure(plain, "peak_memory_infer").value, rel=0.01
    )


def test_parts_add_up() -> None:
    architecture = load_space("shapes").baselines()["se"]
    profile = CostModel(Conditions(train_batch_size=4)).memory(architecture, "train")
    parts = (profile.parameters, profile.gradients, profile.optimizer_state, profile.inputs)
    assert sum(parts) + profile.activations + profile.temporaries == profile.peak
    assert set(profile.blocks) == {block.name for block in architecture.blocks}
    assert 0 < sum(profile.blocks.values()) <= profile.activations


def test_adamw_has_twice_the_state_of_sgd() -> None:
    plain = load_space("shapes").plain()
    kept = {
        name: CostModel(Conditions(train_batch_size=2, optimizer=name)).memory(plain, "train").optimizer_state
        for name in ("sgd", "adamw")
    }
    parameters = sum(1 for _ in _network(plain).parameters())
    assert kept["adamw"] == 2 * kept["sgd"] + 4 * parameters


def test_an_average_is_a_copy_of_parameters_and_buffers() -> None:
    plain = load_space("shapes").plain()
    network = _network(plain)
    copy = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    for mode, more in (("train", copy), ("infer", 0)):
        without, with_it = (
            CostModel(Conditions(train_batch_size=2, averaged=on)).memory(plain, mode) for on in (False, True)
        )
        assert with_it.parameters - without.parameters == with_it.peak - without.peak == more


def test_micro_batches_need_less_memory() -> None:
    plain = load_space("shapes").plain()
    whole, parts = (CostModel(Conditions(train_batch_size=16, micro_batches=n)).memory(plain, "train") for n in (1, 4))
    assert parts.activations < whole.activations / 2


@pytest.mark.parametrize("options", [{}, {"micro_batches": 2}])
def test_largest_batch_is_the_last_that_fits(options: dict[str, Any]) -> None:
    plain = load_space("shapes").plain()
    step = options.get("micro_batches", 1)
    room = 20 << 20
    found = CostModel(Conditions(**options)).largest_batch(plain, room)
    fits, fails = (
        CostModel(Conditions(train_batch_size=batch, **options)).estimate(plain, "peak_memory_train").upper
        for batch in (found, found + step)
    )
    assert found % step == 0
    assert fits <= room < fails
    assert CostModel(Conditions(**options)).largest_batch(plain, 1 << 10) == 0


def test_the_pass_keeps_the_random_state() -> None:
    plain = load_space("shapes").plain()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    costs = CostModel(Conditions(batch_size=2, train_batch_size=2))
    costs.estimate(plain, "peak_memory_train")
    costs.measure(plain, "peak_memory_infer")
    assert torch.equal(torch.rand(3), expected)


class OnDevice(nn.Module):
    """Records the device of its input and the dtype of its product."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 3))
        self.seen: list[object] = []

    def forward(self, images: Tensor) -> Tensor:
        product = images.mean((2, 3)) @ self.weight.T
        self.seen += [images.device.type, images.is_cuda, product.dtype, product.softmax(-1).dtype]
        return product


def test_fake_cuda_tensors_report_cuda_and_cast_without_a_gpu() -> None:
    network = OnDevice()
    conditions = Conditions(device="cuda", dtype="bfloat16", batch_size=2)
    simulate(network, (3, 8, 8), conditions, "infer", op_table={}, blocks={})
    assert network.seen == ["cuda", True, torch.bfloat16, torch.float32]


class Attends(nn.Module):
    """Attention with q = k = v = the image's pixels; with ``transposed``, the last stride is above 1."""

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.transposed = transposed
        self.weight = nn.Parameter(torch.zeros(64, 4))

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(2).unsqueeze(1)
        q = pixels.transpose(2, 3) if self.transposed else pixels.transpose(2, 3).contiguous()
        return nn.functional.scaled_dot_product_attention(q, q, q).mean((1, 2)) @ self.weight


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_fused_attention_needs_dense_rows(device: str) -> None:
    conditions = Conditions(device=device, batch_size=2, channels_last=False)
    dense, strided = (
        simulate(Attends(transposed=flag), (64, 32, 32), conditions, "infer", op_table={}, blocks={}).peak
        for flag in (False, True)
    )
    logits = 2 * (32 * 32) ** 2 * 4
    assert dense < logits < strided


class Asks(nn.Module):
    def __init__(self, ask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.ask = ask

    def forward(self, images: Tensor) -> Tensor:
        return self.ask(images.mean((2, 3)))


@pytest.mark.parametrize(
    "ask",
    [lambda x: x if x.sum() > 0 else -x, lambda x: x[x > 0], lambda x: x[x.sum(1).nonzero()[:, 0]]],
    ids=["condition", "mask", "nonzero"],
)
def test_a_network_that_reads_values_is_refused(ask: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(DataDependentError, match="values of a tensor"):
        simulate(Asks(ask), (3, 8, 8), Conditions(batch_size=2), "infer", op_table={}, blocks={})


def test_a_network_may_index_by_positions() -> None:
    network = Asks(lambda x: x[:, torch.arange(2, device=x.device)])
    for device in ("cpu", "cuda"):
        simulate(network, (3, 8, 8), Conditions(device=device, batch_size=2), "infer", op_table={}, blocks={})


@pytest.mark.parametrize("shortcut", ["old gradient alone", "shared"])
def test_gradients_are_added_in_place_where_the_engine_would(shortcut: str) -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))

        def forward(self, images: Tensor) -> Tensor:
            x = self.first(images)
            y = self.second(x)
            return (y + x if shortcut == "shared" else y.sigmoid() + x).mean((2, 3))

    profile = simulate(Residual(), (8, 32, 32), Conditions(train_batch_size=4), "train", op_table={}, blocks={})
    assert profile.peak == _allocated(Residual(), (4, 8, 32, 32))


def _allocated(network: nn.Module, shape: tuple[int, ...]) -> int:
    network = network.to(memory_format=torch.channels_last)
    images = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(len(images), dtype=torch.int64)
    optimizer = make_optimizer(list(network.parameters()), Conditions())

    def step() -> None:
        run_gradients(network, images, labels, 1, autocast=nullcontext, drop_gradients=optimizer.zero_grad)
        optimizer.step()

    held = sum(tensor.nbytes for tensor in (*network.parameters(), images, labels))
    with threads(1):
        return held + allocator_peak(lambda: (step(), step()))


def _network(architecture: Architecture) -> nn.Module:
    with FakeTensorMode("cpu", {}):
        return build_model(architecture)


@torch.library.custom_op("costs_tests::product", mutates_args=(), device_types="cpu")
def _product(rows: Tensor) -> Tensor:
    return (rows @ rows.t()).float()


def test_custom_operators_run_under_autocast() -> None:
    class Multiplies(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(256, 2))

        def forward(self, images: Tensor) -> Tensor:
            product: Tensor = torch.ops.costs_tests.product(images.flatten(1))
            return product @ self.weight

    plain, cast = (
        simulate(
            Multiplies(), (1, 16, 16), Conditions(batch_size=256, dtype=dtype), "infer", op_table={}, blocks={}
        ).peak
        for dtype in ("float32", "bfloat16")
    )
    images, weight, size = 4 * 256 * 256, 4 * 512, 256 * 256
    assert plain == images + weight + 4 * size + 4 * 512
    assert cast >= images + weight + (2 + 4) * size  # the product in bfloat16 beside its float32 copy
