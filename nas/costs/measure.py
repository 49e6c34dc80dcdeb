"""Running networks on the device: how long they take, and how much memory the allocator gives out."""

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas.builder import build_model
from nas.costs.allocator import allocator_peak
from nas.costs.estimate import DTYPES, Conditions, Measure
from nas.costs.memory import Mode, make_optimizer, run_gradients
from nas.costs.timing import Clock, Run, alternate, cuda_clock, host_clock, thread_clock, threads
from search_spaces import Architecture

MODES: Mapping[Measure, Mode] = {
    "peak_memory_infer": "infer",
    "peak_memory_train": "train",
    "latency_ms": "infer",
    "train_step_ms": "train",
}
"""What has to run for a measure that is not counted."""


@dataclass(frozen=True)
class Workload:
    """A network ready to be run: ``run`` is one inference or optimizer step. ``held``: bytes of weights and batch."""

    run: Run
    held: int


def workload(architecture: Architecture, conditions: Conditions, mode: Mode) -> Workload:
    """Build the network on the device, with a batch of noise."""
    device = torch.device(conditions.device)
    memory_format = torch.channels_last if conditions.channels_last else torch.contiguous_format
    skeleton = architecture.skeleton
    batch = conditions.batch_size if mode == "infer" else conditions.train_batch_size
    with torch.random.fork_rng([]):  # measuring must not change what a search draws
        network = build_model(architecture).to(device).to(memory_format=memory_format)
        images = torch.randn(batch, skeleton.in_channels, skeleton.image_size, skeleton.image_size)
    network.train(mode == "train")
    images = images.to(device).contiguous(memory_format=memory_format)
    labels = torch.arange(batch, device=device) % skeleton.num_classes
    forward: Callable[[Tensor], Tensor] = torch.compile(network) if conditions.compiled else network
    held = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers(), images))

    def autocast() -> AbstractContextManager[object]:
        return torch.autocast(device.type, DTYPES[conditions.dtype], enabled=conditions.dtype != "float32")

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

    return Workload(train, held + labels.nbytes)


def clock_for(conditions: Conditions) -> Clock:
    """CUDA events; the thread's own processor time where one thread does all; else the clock on the wall."""
    if conditions.device_type == "cuda":
        return cuda_clock
    return thread_clock if conditions.threads == 1 else host_clock


def peak_memory(architecture: Architecture, conditions: Conditions, mode: Mode) -> int:
    """The most that the device's allocator gives out for inferences or training steps, weights and batch included.

    In bytes. Two runs, of which the second is the larger: it has the optimizer's state and the first one's gradients.
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
            two_runs(workload(architecture, conditions, mode))
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
    """Milliseconds of a run of each network, in turns: [rounds, networks]."""
    with threads(conditions.threads):
        runs = [workload(architecture, conditions, mode).run for architecture in architectures]
        return alternate(runs, clock_for(conditions), seconds, min_rounds, max_rounds)
