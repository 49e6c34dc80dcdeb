"""Peak memory of inference and of a training step, from one pass over tensors without data (`nas.costs.fake_tensors`).

The step is the same as the trainer's: forward under autocast, loss, drop the previous step's gradients, backward, fused
optimizer. It is not the first step, so the optimizer has its state.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nas.costs.cuda import AsOnCuda
from nas.costs.estimate import DTYPES, Conditions
from nas.costs.fake_tensors import FakeTensor, FakeTensorMode, MemoryTracker, OpTable, Record
from nas.costs.measures import Mode
from nas.layout import memory_format

_STATE: Mapping[str, tuple[int, int]] = {"sgd": (1, 0), "adamw": (2, 1)}
"""Optimizer -> its state per parameter: (tensors of the parameter's size, float32 scalars)."""


@dataclass(frozen=True, slots=True)
class MemoryProfile:
    """The allocated bytes at the peak. Buffers count as parameters, and so does an average of the weights.

    ``activations``: what the forward pass keeps for the backward pass; at inference, all that it holds.
    ``temporaries``: everything else, including what the operation at the peak allocates internally. The parts add up to
    ``peak``. ``blocks``: each block's part of ``activations``. ``traffic`` (bytes read and written) and ``kernels``
    (operations other than views) are sums over the whole pass.
    """

    peak: int
    parameters: int
    gradients: int
    optimizer_state: int
    inputs: int
    activations: int
    temporaries: int
    peak_op: str
    blocks: Mapping[str, int]
    traffic: int
    kernels: int


def make_optimizer(parameters: Iterable[Tensor], conditions: Conditions) -> torch.optim.Optimizer:
    """The trainer's optimizer, in which one fused kernel updates everything; see `_optimizer_workspace`."""
    if conditions.optimizer == "sgd":
        return torch.optim.SGD(parameters, 0.1, 0.9, weight_decay=5e-4, nesterov=True, fused=True)
    return torch.optim.AdamW(parameters, 1e-3, fused=True)


def weights_of(network: nn.Module) -> Iterator[Tensor]:
    """The parameters and buffers, each once: what a trainer's average of the weights holds a copy of."""
    yield from network.parameters()
    yield from network.buffers()


def run_gradients(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    micro_batches: int,
    *,
    autocast: Callable[[], AbstractContextManager[object]],
    drop_gradients: Callable[[], object],
    after_forward: Callable[[], object] = lambda: None,
) -> None:
    """A training step without the optimizer's, on images [batch, C, H, W] and labels [batch].

    The simulation and the measurement both use it.
    """
    for i, (part, targets) in enumerate(zip(images.chunk(micro_batches), labels.chunk(micro_batches), strict=True)):
        with autocast():
            logits = network(part)
        loss = cross_entropy(logits.float(), targets)
        after_forward()
        if i == 0:
            drop_gradients()
        loss.backward()  # type: ignore[no-untyped-call]


def simulate(
    network: nn.Module,
    image: tuple[int, int, int],
    conditions: Conditions,
    mode: Mode,
    *,
    op_table: OpTable,
    blocks: Mapping[str, nn.Module],
) -> MemoryProfile:
    """Runs ``network`` without data. The network is unusable afterwards.

    Args:
        network: [batch, C, H, W] -> logits [batch, classes]; its weights may be fake tensors or on the meta device.
        image: C, H, W.
        conditions: batch size, precision, memory format, optimizer and device.
        mode: ``"infer"`` or ``"train"``.
        op_table: known results of operations; new ones are added.
        blocks: name -> module, for `MemoryProfile.blocks`.

    Raises:
        DataDependentError: the network reads the value of a tensor.
    """
    fakes = FakeTensorMode(conditions.device_type, op_table)
    tracker = fakes.tracker
    for name, module in blocks.items():
        _book_under(name, module, tracker)
    layout = memory_format(network, conditions.device_type, channels_last=conditions.channels_last)
    tracker.kind = "parameters"
    _make_fake(network, fakes, layout)
    tracker.kind = "inputs"
    batch = conditions.batch_size if mode == "infer" else conditions.train_batch_size
    images = fakes.like(torch.empty(batch, *image, device="meta").contiguous(memory_format=layout))
    network.train(mode == "train")
    with ExitStack() as stack:
        if conditions.device_type == "cuda":
            stack.enter_context(AsOnCuda())
        stack.enter_context(fakes)
        if mode == "infer":
            tracker.kind = ""
            tracker.restart()
            with torch.no_grad(), _autocast(conditions, fakes, keep_weights=False):
                network(images)
            return _profile(fakes, [], set())
        labels = fakes.like(torch.empty(batch, dtype=torch.int64, device="meta"))
        tracker.kind = "parameters"
        kept = [torch.empty_like(tensor) for tensor in weights_of(network)] if conditions.averaged else []
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        tracker.kind = "optimizer_state"
        tensors, scalars = _STATE[conditions.optimizer]
        kept += [torch.empty_like(parameter) for parameter in trained for _ in range(tensors)]
        kept += [torch.empty((), device=images.device) for _ in trained for _ in range(scalars)]
        tracker.kind = "gradients"
        for parameter in trained:
            parameter.grad = torch.empty_like(parameter)
        tracker.kind = ""
        tracker.restart()
        ends_of_forward: list[int] = []

        def drop_gradients() -> None:
            for parameter in trained:
                parameter.grad = None

        run_gradients(
            network,
            images,
            labels,
            conditions.micro_batches,
            autocast=lambda: _autocast(conditions, fakes, keep_weights=True),
            drop_gradients=drop_gradients,
            after_forward=lambda: ends_of_forward.append(tracker.time),
        )
        gradients = {id(p.grad.held.record) for p in trained if isinstance(p.grad, FakeTensor)}
        tracker.op = "optimizer step"
        tracker.work(_optimizer_workspace(trained, conditions))
        return _profile(fakes, ends_of_forward, gradients)


def _optimizer_workspace(parameters: Iterable[Tensor], conditions: Conditions) -> int:
    """Bytes that an optimizer's step allocates: on CPUs, the fused kernels copy gradients that are not contiguous."""
    if conditions.device_type != "cpu":
        return 0
    return max((p.grad.nbytes for p in parameters if p.grad is not None and not p.grad.is_contiguous()), default=0)


def _make_fake(network: nn.Module, fakes: FakeTensorMode, layout: torch.memory_format) -> None:
    """Replaces a network's parameters and buffers by fake tensors; shared tensors stay shared."""
    made: dict[int, FakeTensor] = {}

    def fake(tensor: Tensor) -> FakeTensor:
        if id(tensor) not in made:
            model = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
            made[id(tensor)] = fakes.like(model.to(memory_format=layout) if model.ndim == 4 else model)
        return made[id(tensor)]

    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                replaced: Any = fake(parameter).requires_grad_(parameter.requires_grad)
                replaced._is_param = True
                module._parameters[name] = replaced
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = fake(buffer)


def _book_under(name: str, module: nn.Module, tracker: MemoryTracker) -> None:
    def enter(*_: object) -> None:
        tracker.scope = name

    def leave(*_: object) -> None:
        tracker.scope = ""

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave)


@contextmanager
def _autocast(conditions: Conditions, fakes: FakeTensorMode, *, keep_weights: bool) -> Iterator[None]:
    """Like `torch.autocast`, but also works for CUDA on a machine without a GPU.

    ``keep_weights``: whether cast copies of weights are cached until the end. Measurements use inference mode, in which
    autocast does not cache them; fake tensors do not support that mode.
    """
    if conditions.dtype == "float32":
        yield
        return
    kind = conditions.device_type
    before = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind), torch.is_autocast_cache_enabled()
    torch.set_autocast_enabled(kind, True)
    torch.set_autocast_dtype(kind, DTYPES[conditions.dtype])
    torch.set_autocast_cache_enabled(keep_weights)
    torch.autocast_increment_nesting()
    fakes.autocast = DTYPES[conditions.dtype]
    try:
        yield
    finally:
        fakes.autocast = None
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(kind, before[0])
        torch.set_autocast_dtype(kind, before[1])
        torch.set_autocast_cache_enabled(before[2])


def _profile(fakes: FakeTensorMode, ends_of_forward: list[int], gradients: set[int]) -> MemoryProfile:
    tracker = fakes.tracker
    sums = dict.fromkeys(("parameters", "gradients", "optimizer_state", "inputs", "activations", "temporaries"), 0)
    sums["temporaries"] = tracker.peak_workspace
    shares: dict[str, int] = {}
    for record in tracker.records:
        if record.lives_at(tracker.peak_time):
            kind = record.kind or ("gradients" if id(record) in gradients else _role(record, ends_of_forward))
            sums[kind] += record.nbytes
            if kind == "activations" and record.scope:
                shares[record.scope] = shares.get(record.scope, 0) + record.nbytes
    assert sum(sums.values()) == tracker.peak, (sums, tracker.peak)
    return MemoryProfile(
        peak=tracker.peak,
        peak_op=tracker.peak_op,
        blocks=shares,
        traffic=fakes.traffic,
        kernels=fakes.kernels,
        **sums,
    )


def _role(record: Record, ends_of_forward: list[int]) -> Literal["activations", "temporaries"]:
    """The part that a storage belongs to if it is neither weight nor gradient; at inference always activations."""
    if not ends_of_forward or any(map(record.lives_at, ends_of_forward)):
        return "activations"
    return "temporaries"
