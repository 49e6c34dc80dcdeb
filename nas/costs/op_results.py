"""Finds what a single operation returns and allocates, by running it once for each signature.

An operation runs on uninitialised memory. The result has the outputs' shapes and strides, which outputs share memory
with arguments, and the bytes allocated. Meta kernels would give most of this without running anything. But they do not
know the strides that a convolution's backend chooses, nor the memory that oneDNN, reductions and softmax allocate
internally, and their import takes seconds. They are used only for CUDA operations and for operations too large to run.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from nas.costs.allocator import allocator_peak

aten = torch.ops.aten

TensorSpec: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
"""Shape, strides, dtype."""


@dataclass(frozen=True, slots=True)
class Allocated:
    """An output with memory of its own."""

    spec: TensorSpec
    nbytes: int


@dataclass(frozen=True, slots=True)
class View:
    """An output that shares the memory of the tensor argument number ``of``."""

    spec: TensorSpec
    of: int


@dataclass(frozen=True, slots=True)
class InPlace:
    """The tensor argument number ``of`` itself, after an operation in place."""

    of: int


@dataclass(frozen=True, slots=True)
class NonTensor:
    """An output that is not a tensor."""

    value: Any


Output: TypeAlias = Allocated | View | InPlace | NonTensor


@dataclass(frozen=True, slots=True)
class OpResult:
    """The outputs and allocations of an operation.

    ``container`` is the type of a sequence of outputs, None for a single output. ``workspace`` is the peak of the bytes
    allocated while the operation runs, including outputs; ``traffic`` is the bytes of arguments and new outputs. Both
    are 0 for views.
    """

    outputs: tuple[Output, ...]
    container: type | None
    workspace: int
    traffic: int


class DataDependentError(RuntimeError):
    """A network reads values of a tensor, for which the host must also wait for the device."""


def _reads_values(func: Any, tensors: Sequence[Tensor]) -> bool:
    """Whether an operation returns a value of a tensor, or a tensor whose shape depends on values."""
    if torch.Tag.dynamic_output_shape in func.tags:
        # Indexing has this tag too, but its shape depends on values only if an index is a mask.
        return func is not aten.index.Tensor or any(index.dtype in (torch.bool, torch.uint8) for index in tensors[1:])
    return torch.Tag.data_dependent_output in func.tags


def spec_of(tensor: Tensor) -> TensorSpec:
    """A tensor's shape, strides and dtype."""
    return tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype


def run_op(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, exact: bool, autocast: torch.dtype | None = None
) -> OpResult:
    """Runs an operation on tensors of the same specs; returns its outputs and allocations.

    Args:
        func: the operation, an overload such as ``aten.mm.default``.
        args: its arguments; only the specs of tensors matter.
        kwargs: its keyword arguments.
        exact: whether to measure the workspace; otherwise the workspace is the bytes of the outputs.
        autocast: dtype of autocast inside the operation, if it is a custom operator.

    Raises:
        DataDependentError: the operation returns a value of a tensor, or a tensor whose shape depends on values.
    """
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if _reads_values(func, tensors):
        raise DataDependentError(
            f"the network reads values of a tensor (item, nonzero, a comparison in Python; here {func}): its cost "
            "cannot be estimated without running it, and on a GPU the host must wait; keep the value in a tensor"
        )
    read = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if not func._schema.returns:  # the fused optimizers: in place, and nothing allocated
        return OpResult((NonTensor(None),), None, 0, read)
    with nullcontext() if autocast is None else torch.autocast("cpu", autocast):
        outputs, container, workspace = _find(func, args, kwargs, tensors, read, exact)
    new = sum(output.nbytes for output in outputs if isinstance(output, Allocated))
    if all(isinstance(output, View) for output in outputs):
        return OpResult(outputs, container, 0, 0)
    return OpResult(outputs, container, max(workspace, new) if exact else 0, read + new)


_WEIGHTS = {aten.convolution.default: 1, aten.convolution_backward.default: 2}
"""Arguments whose first dimension does not count images."""

_LARGE = 1 << 26
"""With this many bytes of arguments or more, an operation runs on two parts of the batch and is extrapolated."""
_PARTS = {True: (16, 32), False: (2, 3)}
"""Images in the two parts, by ``exact``. Below 16, oneDNN uses another implementation of 1x1 convolutions."""
_TOO_LARGE = 1 << 31

_Found: TypeAlias = tuple[tuple[Output, ...], type | None, int]


def _find(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: Sequence[Tensor], read: int, exact: bool
) -> _Found:
    view = any(result.alias_info is not None and not result.alias_info.is_write for result in func._schema.returns)
    few, many = _PARTS[exact]
    if read >= _LARGE and not view:
        weight = args[_WEIGHTS[func]] if func in _WEIGHTS else None
        images = next((t.shape[0] for t in tensors if t.ndim > 2 and t is not weight), 0)
        if images > many:
            try:
                return _extrapolate(
                    _run(func, args, kwargs, "cpu", _resized(images, few, weight)),
                    _run(func, args, kwargs, "cpu", _resized(images, many, weight)),
                    (images - few) / (many - few),
                )
            except RuntimeError:
                pass  # not every first dimension is the batch
    if read >= _TOO_LARGE and not view:
        return _run(func, args, kwargs, "meta", _whole)
    try:
        return _run(func, args, kwargs, "cpu", _whole)
    except NotImplementedError:
        return _run(func, args, kwargs, "meta", _whole)


_Resize: TypeAlias = Callable[[Any], Sequence[int]]
"""From a tensor or a list of integers to its shape or entries in the part that is run."""


def _whole(value: Any) -> Sequence[int]:
    return value.shape if isinstance(value, Tensor) else value


def _resized(images: int, part: int, weight: Tensor | None) -> _Resize:
    def resize(value: Any) -> Sequence[int]:
        shape = _whole(value)
        return [part, *shape[1:]] if len(shape) > 2 and shape[0] == images and value is not weight else shape

    return resize


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], device: str, resize: _Resize) -> _Found:
    made: list[Tensor] = []

    def real(value: Any) -> Any:
        if isinstance(value, Tensor):
            tensor = torch.empty_strided(resize(value), value.stride(), dtype=value.dtype, device=device)
            made.append(tensor if value.is_floating_point() else tensor.zero_())  # indices must be valid
            return made[-1]
        if isinstance(value, list) and value and isinstance(value[0], int):
            return list(resize(value))
        return torch.device(device) if isinstance(value, torch.device) else value

    def is_leaf(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and isinstance(value[0], int)

    real_args, real_kwargs = (tree_map(real, values, is_leaf=is_leaf) for values in (args, kwargs))
    if not made:
        real_kwargs["device"] = torch.device(device)
    results: list[Any] = []
    draws = torch.Tag.nondeterministic_seeded in func.tags
    with torch.random.fork_rng([]) if draws else nullcontext():  # keeps the caller's random numbers
        workspace = allocator_peak(lambda: results.append(func(*real_args, **real_kwargs)))
    raw = results[0]
    container = type(raw) if isinstance(raw, (tuple, list)) else None
    storages = {tensor.untyped_storage()._cdata: i for i, tensor in enumerate(made)}
    positions = {id(tensor): i for i, tensor in enumerate(made)}
    outputs: list[Output] = []
    for result in raw if container is not None else [raw]:
        if not isinstance(result, Tensor):
            outputs.append(NonTensor(result))
        elif id(result) in positions:
            outputs.append(InPlace(positions[id(result)]))
        elif result.untyped_storage()._cdata in storages:
            outputs.append(View(spec_of(result), storages[result.untyped_storage()._cdata]))
        else:
            outputs.append(Allocated(spec_of(result), result.untyped_storage().nbytes()))
    return tuple(outputs), container, workspace


def _extrapolate(few: _Found, many: _Found, factor: float) -> _Found:
    """Extrapolates every number linearly from the two results."""

    def number(a: int, b: int) -> int:
        return a + round((b - a) * factor)

    def spec(a: TensorSpec, b: TensorSpec) -> TensorSpec:
        return tuple(map(number, a[0], b[0])), tuple(map(number, a[1], b[1])), a[2]

    outputs: list[Output] = []
    for a, b in zip(few[0], many[0], strict=True):
        if isinstance(a, Allocated) and isinstance(b, Allocated):
            outputs.append(Allocated(spec(a.spec, b.spec), number(a.nbytes, b.nbytes)))
        elif isinstance(a, View) and isinstance(b, View):
            outputs.append(View(spec(a.spec, b.spec), a.of))
        else:
            outputs.append(a)
    return tuple(outputs), few[1], number(few[2], many[2])
