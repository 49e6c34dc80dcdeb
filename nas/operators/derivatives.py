"""Where gradients written by hand serve, and what serves elsewhere.

A gradient written by hand is a first derivative in reverse mode of one result. For all else PyTorch differentiates the
plain formula that every operator has beside its fast form:

- forward mode (`torch.func.jvp`, `torch.autograd.forward_ad`) and the transforms of `torch.func` (``grad``, ``vmap``,
  ``jacrev``): `transformed` tells them, and the operator runs its formula from the start;
- derivatives of a gradient (``create_graph``), and many gradients at once (``is_grads_batched``): only the backward
  pass can tell. There `by_formula` tells them, and `formula_gradients` gives the formula's gradients.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd import forward_ad

from nas.operators.base import recording


def transformed() -> bool:
    """Whether forward mode or a transform of `torch.func` is active."""
    # Neither has a public question; torch.autograd.Function.apply asks the second one, too.
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def differentiates(x: Tensor) -> bool:
    """Whether a gradient of ``x`` is to be written by hand: one is wanted, and no compiler or transform looks on."""
    looked_on = torch.compiler.is_compiling() or recording() or transformed()
    return torch.is_grad_enabled() and x.requires_grad and not looked_on


def by_formula(*grads: Tensor | None) -> bool:
    """Whether a backward pass that is given ``grads`` must be differentiable or take several gradients at once."""
    # ``is_grads_batched`` has a vmap of its own, older than that of torch.func.
    batched = any(grad is not None and is_legacy_batchedtensor(grad) for grad in grads)
    return batched or torch.is_grad_enabled() or transformed()


def formula_gradients(
    formula: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of ``formula(*inputs)`` that can be differentiated again.

    Args:
        formula: public operators alone, which PyTorch differentiates any number of times.
        inputs: what a Function has saved.
        grad: gradient of the formula's result.

    Returns:
        One gradient an input; None where an input wants none.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Through aliases: one input may be a function of another, and that part of its gradient is not asked for.
        aliases = [x.view_as(x) for x in inputs]
        wanted = [alias for alias in aliases if alias.requires_grad]
        found = iter(torch.autograd.grad(formula(*aliases), wanted, grad, create_graph=again))
    return tuple(next(found) if alias.requires_grad else None for alias in aliases)
