"""Decides where hand-written gradients apply, and provides the gradients for all other cases.

A hand-written gradient is a single first derivative in reverse mode. In all other cases PyTorch differentiates the
plain formula that every operator has besides its fast form:

- forward mode (`torch.func.jvp`, `torch.autograd.forward_ad`) and the transforms of `torch.func` (``grad``, ``vmap``,
  ``jacrev``): `transformed` detects them, and the forward pass uses the formula;
- derivatives of a gradient (``create_graph``) and several gradients at once (``is_grads_batched``): only the backward
  pass can detect them, by `by_formula`. It then uses `formula_gradients`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd import forward_ad

from nas.operators.base import recording


class Context(Protocol):
    """The state that a forward pass keeps for its backward pass. PyTorch creates it; operators add their own fields."""

    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Saves tensors for `saved_tensors` in the backward pass."""

    def set_materialize_grads(self, value: bool, /) -> None:
        """False: the backward pass gets None instead of zeros for a missing gradient."""


def transformed() -> bool:
    """Whether forward mode or a transform of `torch.func` is active."""
    # PyTorch has no public function for either. torch.autograd.Function.apply calls the second one, too.
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def differentiates(x: Tensor) -> bool:
    """Whether to use the hand-written gradient of ``x``: one is required, and no compiler or transform is active."""
    looked_on = torch.compiler.is_compiling() or recording() or transformed()
    return torch.is_grad_enabled() and x.requires_grad and not looked_on


def by_formula(*grads: Tensor | None) -> bool:
    """Whether the backward pass for ``grads`` must be differentiable, or is vectorised over several gradients."""
    # ``is_grads_batched`` uses its own vmap, which is older than torch.func's.
    batched = any(grad is not None and is_legacy_batchedtensor(grad) for grad in grads)
    return batched or torch.is_grad_enabled() or transformed()


def formula_gradients(
    formula: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of ``formula(*inputs)`` that can be differentiated again.

    Args:
        formula: uses only public operators, so that PyTorch can differentiate it any number of times.
        inputs: the tensors that a Function has saved.
        grad: gradient of the formula's result.

    Returns:
        One gradient per input; None for an input that requires no gradient.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases cut the graph: one input may be a function of another, and that path must not be differentiated.
        aliases = [x.view_as(x) for x in inputs]
        wanted = [alias for alias in aliases if alias.requires_grad]
        found = iter(torch.autograd.grad(formula(*aliases), wanted, grad, create_graph=again))
    return tuple(next(found) if alias.requires_grad else None for alias in aliases)
