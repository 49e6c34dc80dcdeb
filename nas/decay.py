"""Which parameters weight decay is for."""

from torch import nn

_NORMS = nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm
"""The first is what BatchNorm and InstanceNorm of any dimension are made from."""


def split_by_decay(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters that decay, and those that do not, by their role; each list in the network's order.

    Scales and shifts of norms, biases, and what a module names in its class attribute ``undecayed`` do not decay.
    Everything else does: weights of convolutions and linear layers, and tables such as AA's relative positions.
    """
    spared = {
        id(parameter)
        for module in network.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, _NORMS) or name.endswith("bias") or name in getattr(module, "undecayed", ())
    }
    parameters = list(network.parameters())
    return [p for p in parameters if id(p) not in spared], [p for p in parameters if id(p) in spared]
