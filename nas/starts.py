"""How a network starts a training."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.operators.gating import OPEN, Gate


def quick_start(network: nn.Module) -> None:
    """Lets every part of a network learn from the first step. Only parameters change, not what the network computes.

    - Norms whose scale starts at 0, as the last one of a residual block (Goyal et al., "Accurate, large minibatch SGD",
      2017), start at 1. A scale of 0 passes no gradient on, so the block's other layers wait for it.
    - The biases in front of the sigmoids of SE, CBAM, GE and GALA are set so that the factors start near 0.95. With the
      papers' biases of 0 they start at a half, for CBAM at a quarter, and reduce what a block adds and its gradient.

    In a short training both cost accuracy, and the gates cost it only where there is attention, so that a search
    prefers the plain network (docs/search.md, "A quick start"). BAM and AW multiply by 1 to 2 and AA has no factor, so
    they start as ever; so do gates without a bias.
    """
    for module in network.modules():
        if isinstance(module, Gate):
            module.open(OPEN)
        elif isinstance(module, _BatchNorm) and module.weight is not None and not module.weight.any():
            nn.init.ones_(module.weight)
