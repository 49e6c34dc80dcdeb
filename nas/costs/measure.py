"""Runs networks on the device and measures their time and the memory that they allocate."""

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas.builder import build_model
from nas.costs.allocator import allocator_peak
from nas.costs.device import check_present
from nas.costs.estimate import DTYPES, Conditions
from nas.costs.measures import Mode
from nas.costs.memory import make_optimizer, run_gradients, weights_of
from nas.costs.timing import Clock, Run, alternate, cuda_clock, host_clock, thread_clock, threads, undisturbed
from nas.layout import memory_format
from nas.skeletons import Network
from search_spaces import Architecture

_Stamp = float | torch.cuda.Event


@dataclass(frozen=True)
class Workload:
    """A network ready to run. ``run``: one inference or optimizer step; ``held``: bytes of weights and batch.

    ``average``: copies of the weights, as a trainer's average holds them; part of ``held``.
    """

    run: Run
    held: int
    average: Sequence[Tensor] = ()


def _ready(architecture: Architecture, conditions: Conditions, mode: Mode) -> tuple[Network, Tensor, Tensor]:
    """The network on the device, with a batch of noise and its labels.

    Raises:
        ValueError: the machine does not have the device.
    """
    check_present(conditions.device)
    device = torch.device(conditions.device)
    skeleton = architecture.skeleton
    batch = conditions.batch_size if mode == "infer" else conditions.train_batch_size
    with torch.random.fork_rng([]):  # a measurement must not change the search's random numbers
        network = build_model(architecture).to(device)
        layout = memory_format(network, device.type, channels_last=conditions.channels_last)
        network.to(memory_format=layout)
        images = torch.randn(batch, skeleton.in_channels, skeleton.image_size, skeleton.image_size)
    network.train(mode == "train")
    images = images.to(device).contiguous(memory_format=layout)
    return network, images, torch.arange(batch, device=device) % skeleton.num_classes


def workload(architecture: Architecture, conditions: Conditions, mode: Mode) -> Workload:
    """A network on the device, with a batch of noise."""
    network, images, labels = _ready(architecture, conditions, mode)
    forward: Callable[[Tensor], Tensor] = torch.compile(network) if conditions.compiled else network
    held = images.nbytes + sum(tensor.nbytes for tensor in weights_of(network))

    def autocast() -> AbstractContextManager[object]:
        return _autocast(conditions)

    if mode == "infer":

        def infer() -> None:
            with torch.inference_mode(), autocast():
                forward(images)

        return Workload(infer, held)

    optimizer = make_optimizer([p for p in network.parameters() if p.requires_grad], conditions)

    def train() -> None:
        run_gradients(
            forward,
            images,
            labels,
            conditions.micro_batches,
            autocast=autocast,
            drop_gradients=lambda: optimizer.zero_grad(set_to_none=True),
        )
        optimizer.step()

    average = [tensor.detach().clone() for tensor in weights_of(network)] if conditions.averaged else []
    return Workload(train, held + labels.nbytes + sum(tensor.nbytes for tensor in average), average)


def _autocast(conditions: Conditions) -> torch.autocast:
    enabled = conditions.dtype != "float32"
    return torch.autocast(conditions.device_type, DTYPES[conditions.dtype], enabled=enabled)


def clock_for(conditions: Conditions) -> Clock:
    """CUDA events on a GPU; the thread's CPU time if there is one thread; otherwise wall-clock time."""
    if conditions.device_type == "cuda":
        return cuda_clock
    return thread_clock if conditions.threads == 1 else host_clock


def peak_memory(architecture: Architecture, conditions: Conditions, mode: Mode) -> int:
    """Peak of the bytes allocated on the device for inference or training steps, including weights and batch.

    Uses two runs. The second needs more: it also has the optimizer's state and the gradients of the first.
    """

    def two_runs(work: Workload) -> None:
        work.run()
        work.run()

    with threads(conditions.threads):
        if conditions.device_type == "cuda":
            device = torch.device(conditions.device)
            gc.collect()
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            work = workload(architecture, conditions, mode)
            two_runs(work)
            torch.cuda.synchronize(device)
            return torch.cuda.max_memory_allocated(device) - before
        work = workload(architecture, conditions, mode)
        return work.held + allocator_peak(lambda: two_runs(work))


def time_together(
    architectures: Sequence[Architecture],
    conditions: Conditions,
    mode: Mode,
    *,
    seconds: float,
    min_rounds: int,
    max_rounds: int = 1000,
) -> npt.NDArray[np.float64]:
    """Milliseconds of a run of each network, [rounds, networks]; the networks run in turn."""
    with threads(conditions.threads):
        runs = [workload(architecture, conditions, mode).run for architecture in architectures]
        return alternate(runs, clock_for(conditions), seconds, min_rounds, max_rounds)


def block_shares(architecture: Architecture, conditions: Conditions, *, seconds: float = 1.0) -> dict[str, float]:
    """Each block's share of the time of an inference, in eager mode; stem and head take the rest.

    Uses undisturbed times of as many inferences as fit into `seconds`, but at least 5.
    """
    network, images, _ = _ready(architecture, conditions, "infer")
    names = [block.name for block in architecture.blocks]
    stamps: list[_Stamp] = []

    def stamp(*_: object) -> None:
        stamps.append(_stamp(conditions))

    for name in names:
        block = network.get_submodule(f"stages.{name}")
        block.register_forward_pre_hook(stamp)
        block.register_forward_hook(stamp)
    rounds: list[list[float]] = []
    with threads(conditions.threads), torch.inference_mode(), _autocast(conditions):
        network(images)
        end = time.perf_counter() + seconds
        while len(rounds) < 5 or time.perf_counter() < end:
            stamps.clear()
            stamp()
            network(images)
            stamp()
            first, *inner, last = stamps
            pairs = [(first, last), *zip(inner[::2], inner[1::2], strict=True)]
            rounds.append([_milliseconds(start, stop) for start, stop in pairs])
    whole, *blocks = undisturbed(np.array(rounds))
    return {name: float(ms / whole) for name, ms in zip(names, blocks, strict=True)}


def _stamp(conditions: Conditions) -> _Stamp:
    """The present time on the device, by the same kind of clock as `clock_for`."""
    if conditions.device_type == "cuda":
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event
    return time.thread_time() if conditions.threads == 1 else time.perf_counter()


def _milliseconds(start: _Stamp, stop: _Stamp) -> float:
    """Milliseconds between two stamps."""
    if isinstance(start, float) and isinstance(stop, float):
        return (stop - start) * 1e3
    assert isinstance(start, torch.cuda.Event)
    assert isinstance(stop, torch.cuda.Event)
    stop.synchronize()
    return float(start.elapsed_time(stop))
