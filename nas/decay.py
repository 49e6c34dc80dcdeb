"""Decides which parameters get weight decay."""

from torch import nn

_NORMS = nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm
"""The first is the base class of BatchNorm and InstanceNorm of every dimension."""


def split_by_decay(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters with weight decay, and those without it; each list has the network's order.

    There is no decay for scales and shifts of norms, for biases, and for parameters that a module names in its class
    attribute ``undecayed``. All others decay: weights of convolutions and linear layers, and tables such as AA's
    relative positions.
    """
    spared = {
        id(parameter)
        for module in network.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, _NORMS) or name.endswith("bias") or name in getattr(module, "undecayed", ())
    }
    parameters = list(network.parameters())
    return [p for p in parameters if id(p) not in spared], [p for p in parameters if id(p) in spared]
