"""Which memory format a network's weights and images have."""

import torch
from torch import nn

_SAFE_CHANNELS = 8


def memory_format(network: nn.Module, device: str, *, channels_last: bool) -> torch.memory_format:
    """The memory format for a network on a kind of device (``cpu``, ``cuda``).

    It is `torch.contiguous_format` although `channels_last` is asked for, if the network has a strided 1x1 convolution
    of fewer than eight channels and runs on the CPU. With such images oneDNN's gradient of the weights writes past its
    buffer on CPUs that have only AVX2: it is wrong, hangs, or ends the process
    (https://github.com/uxlfoundation/oneDNN/issues/6035).
    """
    if not channels_last or (device == "cpu" and any(map(_writes_past_its_buffer, network.modules()))):
        return torch.contiguous_format
    return torch.channels_last


def _writes_past_its_buffer(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(int(stride) for stride in module.stride) > 1
        and module.groups == 1
        and module.in_channels < _SAFE_CHANNELS
    )
