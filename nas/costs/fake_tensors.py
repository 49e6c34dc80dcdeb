"""Fake tensors, which have shape, strides, dtype and device but no data, and a tracker of the memory they would use.

A network of fake tensors runs forward, backward and optimizer unchanged, in milliseconds. Below autograd, the result of
every operation comes from a table (`nas.costs.op_results`). A storage is freed with its last tensor, as on the device.

Two existing kinds of tensors do not suffice:

- torch's own `FakeTensor` runs meta kernels, which do not know the strides that a convolution's backend chooses, nor
  the memory that an operation allocates internally.
- Meta tensors have another device, autocast does not cast them, and scaled-dot-product attention always uses the kernel
  that materialises the logits.

In C++ all fake tensors are CPU tensors, also those of CUDA: autograd's engine asks the driver about CUDA tensors, and
there may be no driver. `nas.costs.cuda` adds what CUDA does differently.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.utils._python_dispatch import TorchDispatchMode

from nas.costs.op_results import Allocated, InPlace, OpResult, Output, TensorSpec, View, run_op, spec_of

aten = torch.ops.aten

OpTable: TypeAlias = dict[tuple[Any, ...], OpResult]
"""Signature of an operation -> its result. Filled as networks run; valid for one device and number of threads."""


@dataclass(slots=True)
class Record:
    """The lifetime of a storage. Times count the tracker's events; ``died`` is None until the storage is freed."""

    nbytes: int
    kind: str
    scope: str
    born: int
    died: int | None = None

    def lives_at(self, time: int) -> bool:
        """Whether the storage is allocated after event ``time``."""
        return self.born <= time and (self.died is None or self.died > time)


class MemoryTracker:
    """Tracks the allocated bytes and their peak.

    ``granularity``: the allocator's rounding in bytes; 512 on CUDA (c10/cuda/CUDACachingAllocator), 1 on a CPU, whose
    allocator reports the requested sizes. New records get the current ``kind`` and ``scope``.
    """

    def __init__(self, granularity: int) -> None:
        self.granularity = granularity
        self.records: list[Record] = []
        self.time = 0
        self.current = 0
        self.kind = ""
        self.scope = ""
        self.op = ""
        self.restart()

    def restart(self) -> None:
        """Resets the peak to the present; storages stay allocated."""
        self.peak = self.current
        self.peak_time = self.time
        self.peak_op = ""
        self.peak_workspace = 0

    def allocate(self, nbytes: int) -> "Storage":
        """A storage of at least ``nbytes``. It is freed when the returned object is deleted."""
        rounded = -(-nbytes // self.granularity) * self.granularity
        self.time += 1
        self.current += rounded
        record = Record(rounded, self.kind, self.scope, self.time)
        self.records.append(record)
        self._look(0)
        return Storage(self, record)

    def work(self, nbytes: int) -> None:
        """Records that an operation has at most ``nbytes`` allocated while it runs.

        This includes its outputs, which the caller allocates afterwards.
        """
        self.time += 1
        self._look(nbytes)

    def _look(self, workspace: int) -> None:
        if self.current + workspace > self.peak:
            self.peak = self.current + workspace
            self.peak_time, self.peak_op, self.peak_workspace = self.time, self.op, workspace


class Storage:
    """Memory that tensors share. It is freed with the last of them."""

    __slots__ = ("record", "tracker")

    def __init__(self, tracker: MemoryTracker, record: Record) -> None:
        self.tracker = tracker
        self.record = record

    def __del__(self) -> None:
        self.tracker.time += 1
        self.tracker.current -= self.record.nbytes
        self.record.died = self.tracker.time


class FakeTensor(Tensor):
    """A tensor on a CPU, without data."""

    held: Storage
    spec: TensorSpec
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise AssertionError(f"{func} on a fake tensor outside its mode")


class FakeCudaTensor(FakeTensor):
    """A tensor on the first GPU, without data."""

    device = torch.device("cuda", 0)
    is_cuda = True
    is_cpu = False


class FakeTensorMode(TorchDispatchMode):
    """In this mode operations on fake tensors take their results from ``op_table``, and new tensors are fake.

    ``tracker`` records the allocations. ``traffic``: bytes read and written; ``kernels``: operations other than views.
    ``autocast``: the precision of autocast. Operations arrive here below autocast and cannot see it, but a user's
    custom operators still run under it.
    """

    def __init__(self, device_type: str, op_table: OpTable) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracker = MemoryTracker(512 if device_type == "cuda" else 1)
        self.traffic = 0
        self.kernels = 0
        self.autocast: torch.dtype | None = None
        self._on_cuda = device_type == "cuda"
        self._op_table = op_table

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise another frame hides the caller, which `_accumulates` needs

    def like(self, tensor: Tensor) -> FakeTensor:
        """A fake tensor with the shape, strides and dtype of a dense tensor."""
        return self._fake(spec_of(tensor), self.tracker.allocate(tensor.nbytes))

    def _fake(self, spec: TensorSpec, storage: Storage) -> FakeTensor:
        shape, strides, dtype = spec
        fake = Tensor._make_wrapper_subclass(
            FakeCudaTensor if self._on_cuda else FakeTensor, shape, strides=strides, dtype=dtype, device=_CPU
        )
        fake.held, fake.spec = storage, spec
        return fake

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors: list[Tensor] = []
        signature: list[Any] = [func]
        _sign(args, tensors, signature)
        for name, value in (kwargs or {}).items():
            signature.append(name)
            _sign((value,), tensors, signature)
        if not any(isinstance(tensor, FakeTensor) for tensor in tensors) and (tensors or not _makes_tensor(func)):
            return func(*args, **(kwargs or {}))
        self.tracker.op = str(func)
        if func is aten.add.Tensor and _accumulates(*args[:2]):
            self.kernels += 1
            return self._fake(args[0].spec, args[0].held)
        inside = None if func.namespace == "aten" else self.autocast
        key = (*signature, inside)
        known = self._op_table.get(key)
        if known is None:
            known = self._op_table[key] = run_op(func, args, kwargs or {}, exact=not self._on_cuda, autocast=inside)
        if known.traffic:
            self.traffic += known.traffic
            self.kernels += 1
        if known.workspace:
            self.tracker.work(known.workspace)
        outputs = [self._realise(output, tensors) for output in known.outputs]
        return outputs[0] if known.container is None else known.container(outputs)

    def _realise(self, output: Output, tensors: Sequence[Tensor]) -> Any:
        if isinstance(output, Allocated):
            return self._fake(output.spec, self.tracker.allocate(output.nbytes))
        if isinstance(output, View):
            base = tensors[output.of]
            return self._fake(output.spec, base.held if isinstance(base, FakeTensor) else self.tracker.allocate(0))
        return tensors[output.of] if isinstance(output, InPlace) else output.value


_CPU = torch.device("cpu")


def _makes_tensor(func: Any) -> bool:
    """Whether an operation returns a tensor (``aten.empty``), and not a dtype, a number or nothing."""
    return func.namespace == "aten" and any(isinstance(r.type, torch.TensorType) for r in func._schema.returns)


def _sign(values: Sequence[Any], tensors: list[Tensor], signature: list[Any]) -> None:
    """Appends the tensors among ``values`` to ``tensors``, and all that determines the outputs to ``signature``."""
    for value in values:
        if isinstance(value, FakeTensor):
            tensors.append(value)
            signature.append(value.spec)
        elif isinstance(value, Tensor):
            tensors.append(value)
            signature.append(spec_of(value))
        elif isinstance(value, (list, tuple)):
            signature.append(len(value))
            _sign(value, tensors, signature)
        elif isinstance(value, (bool, float)):
            signature.append((type(value), value))  # True == 1 == 1.0, but a sum with 1.0 is a float
        else:
            signature.append(value)


_SOLE_USE = 4
"""C++ references to a tensor, counted in a dispatch mode, if only autograd's engine holds it."""
_SOLE_HOLD = 2
"""References to the storage of a single fake tensor: the tensor's, and that of the call which counts."""


def _accumulates(first: Any, second: Any) -> bool:
    """Whether autograd's engine is adding two gradients of one tensor and would add in place on the device.

    The engine adds into the first gradient if nothing else holds it (torch/csrc/autograd/input_buffer.cpp), but never
    while a dispatch mode is active.
    """
    return (
        sys._getframe(2).f_code is _engine_run_backward.__code__
        and isinstance(first, FakeTensor)
        and isinstance(second, Tensor)
        and first.spec == spec_of(second)
        and first._use_count() <= _SOLE_USE
        and sys.getrefcount(first.held) <= _SOLE_HOLD
    )
