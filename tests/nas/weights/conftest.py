from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture
def randomised() -> Callable[[nn.Module], nn.Module]:
    """Gives a network random values that keep activations within sight of 1, also the statistics of norms."""

    def fill(network: nn.Module) -> nn.Module:
        torch.manual_seed(0)
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif value.is_floating_point() and value.dim() == 1:
                value.uniform_(-0.5, 0.5) if name.endswith(("bias", "mean")) else value.uniform_(0.5, 1.5)
            elif value.is_floating_point():
                value.normal_(0, (2 / value[0].numel()) ** 0.5)
        return network.eval()

    return fill
