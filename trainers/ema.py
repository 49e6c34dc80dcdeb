"""The average of a network's weights over the last training steps, with batch-norm statistics of its own.

The average is exponential (Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992). The
statistics that batch norms collected for the trained weights do not fit the averaged ones, so they are made anew from
training images (Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018).

`torch.optim.swa_utils.AveragedModel` is not used: it counts the steps in a tensor that the host must wait for, and
copies every buffer in every step. Its function for one step is used (`get_ema_multi_avg_fn`).
"""

import math
from collections.abc import Callable
from copy import deepcopy

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from trainers.datasets.base import Indices
from trainers.distributed import Share, total

_MOST_BATCHES = 50
"""With more, the statistics are hardly more exact."""


def begin(network: nn.Module) -> nn.Module:
    """A copy to hold the average, in evaluation mode and without gradients."""
    return deepcopy(network).requires_grad_(requires_grad=False).eval()


def decay(step: int, time_constant: float) -> float:
    """The factor of the old average in a step.

    Early steps have smaller factors, so that the first weights are forgotten: at most (1 + step) / (10 + step), an
    average over about the last ninth of the steps.

    Args:
        step: counted from 0.
        time_constant: steps after which a weight's share has fallen by the factor e; above 0.
    """
    return min(math.exp(-1 / time_constant), (1 + step) / (10 + step))


def update(average: nn.Module, network: nn.Module, factor: float) -> None:
    """Moves the average's parameters towards the network's: ``factor * average + (1 - factor) * network``."""
    mix = get_ema_multi_avg_fn(factor)  # type: ignore[no-untyped-call]
    mix(list(average.parameters()), list(network.parameters()), None)


def sample(images: int, steps: int, size: int) -> Indices:
    """The images for the statistics, evenly spaced in a training split, so that every class has its share.

    They are a tenth of an epoch's images, but at least a batch. Without a backward pass this takes about a thirtieth of
    the epoch's time. All trainings take the same images, so the choice of images favours no network.

    Args:
        images: of the split; at least ``steps * size``.
        steps: batches of an epoch.
        size: images of a batch.
    """
    batches = min(max(1, steps // 10), _MOST_BATCHES)
    return np.linspace(0, images - 1, batches * size, dtype=np.int64)


def renew(average: nn.Module, network: nn.Module, run: Callable[[], object], share: Share) -> None:
    """Makes the buffers of an average: statistics of batch norms from the images of ``run``, all others the network's.

    Args:
        average: its batch norms are in training mode during ``run``, all else in evaluation mode.
        network: the trained network.
        run: runs the average on some training batches. Each batch has the same weight in the statistics.
        share: the statistics are the mean over all ranks. All ranks must call this function.
    """
    for own, trained in zip(average.buffers(), network.buffers(), strict=True):
        own.copy_(trained)
    norms = [module for module in average.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
        norm.train()
    try:
        run()
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    for norm in norms:
        for statistics in (norm.running_mean, norm.running_var):
            assert statistics is not None
            statistics.copy_(total(statistics, share) / share.world_size)
