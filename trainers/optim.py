"""The optimizer with its groups of parameters, and the learning rate of every step."""

import math
from typing import Any

import torch
from torch import nn

from nas import split_by_decay
from trainers.config import TrainerConfig


def make_optimizer(network: nn.Module, config: TrainerConfig) -> torch.optim.Optimizer:
    """The optimizer, with weight decay for weights but not for scales and biases (`nas.split_by_decay`)."""
    groups: list[dict[str, Any]] = []
    for parameters, decay in zip(split_by_decay(network), (config.weight_decay, 0.0), strict=True):
        trained = [p for p in parameters if p.requires_grad]
        if trained:
            groups.append({"params": trained, "weight_decay": decay})
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.lr, config.momentum, nesterov=config.nesterov, fused=True)
    return torch.optim.AdamW(groups, config.lr, (config.momentum, 0.999), fused=True)


def learning_rate(config: TrainerConfig, step: int, *, steps: int, epochs: int) -> float:
    """Linear from 0 to the peak, then half a cosine to 0 (Loshchilov and Hutter, ICLR 2017).

    Args:
        config: peak and length of the warm-up.
        step: number of the step, counted from 0 over all epochs.
        steps: steps per epoch.
        epochs: epochs of the whole schedule.
    """
    total = epochs * steps
    warmup = min(round(config.warmup_epochs * steps), total - 1)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
