"""Tensors without data that behave as if they stood on a device, and a ledger of the memory they would occupy.

A network of ghosts is run as it is, forward, backward and optimizer, in milliseconds. Below autograd every operation is
answered from a table (`nas.costs.answers`); the life of a storage ends with its last tensor, exactly as it would on the
device. Ghosts differ from meta tensors in what decides the path that code takes: ``device`` reads as the real one,
autocast casts, and scaled-dot-product attention picks its kernel by the device's own rule, where on meta tensors it
always takes the one that materialises the logits.

On the C++ side ghosts are CPU tensors throughout, also those of CUDA: autograd's engine asks the driver about tensors
of CUDA, and there may be none. What CUDA does otherwise (its casts, its attention kernels) is in `nas.costs.cuda`.
"""

# ruff: noqa: ANN401 - operations take and give anything

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.utils._python_dispatch import TorchDispatchMode

from nas.costs.answers import Answer, Form, Fresh, Output, Same, View, answer, form_of

aten = torch.ops.aten

Answers: TypeAlias = dict[tuple[Any, ...], Answer]
"""Signature of an operation -> answer. Filled as networks are run; good for one device and number of threads."""


@dataclass(slots=True)
class Record:
    """A storage's life. Times count the ledger's entries; ``died`` is None while it lives."""

    nbytes: int
    kind: str
    scope: str
    born: int
    died: int | None = None

    def lives_at(self, time: int) -> bool:
        """Whether it was allocated after the entry ``time``."""
        return self.born <= time and (self.died is None or self.died > time)


class Ledger:
    """What is allocated now, and what was when most was.

    ``granularity`` is what the allocator rounds to: 512 on CUDA (c10/cuda/CUDACachingAllocator), 1 on a CPU, whose
    allocator reports what it was asked for. New records get the present ``kind`` and ``scope``.
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
        """Forget the peak; what is allocated stays."""
        self.peak = self.current
        self.peak_time = self.time
        self.peak_op = ""
        self.peak_workspace = 0

    def allocate(self, nbytes: int) -> "Storage":
        """A storage of at least ``nbytes``, allocated until the value returned is gone."""
        rounded = -(-nbytes // self.granularity) * self.granularity
        self.time += 1
        self.current += rounded
        record = Record(rounded, self.kind, self.scope, self.time)
        self.records.append(record)
        self._look(0)
        return Storage(self, record)

    def work(self, nbytes: int) -> None:
        """An operation has ``nbytes`` allocated at most while it runs, outputs included; those are booked after it."""
        self.time += 1
        self._look(nbytes)

    def _look(self, workspace: int) -> None:
        if self.current + workspace > self.peak:
            self.peak = self.current + workspace
            self.peak_time, self.peak_op, self.peak_workspace = self.time, self.op, workspace


class Storage:
    """Memory that tensors share; gone with the last of them."""

    __slots__ = ("ledger", "record")

    def __init__(self, ledger: Ledger, record: Record) -> None:
        self.ledger = ledger
        self.record = record

    def __del__(self) -> None:
        self.ledger.time += 1
        self.ledger.current -= self.record.nbytes
        self.record.died = self.ledger.time


class Ghost(Tensor):
    """A tensor of a CPU without data."""

    held: Storage
    form: Form
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise AssertionError(f"{func} on a ghost outside its mode")


class CudaGhost(Ghost):
    """A tensor of the first GPU without data."""

    device = torch.device("cuda", 0)
    is_cuda = True
    is_cpu = False


class GhostMode(TorchDispatchMode):
    """Inside, operations on ghosts are answered from ``answers`` and booked in ``ledger``, and new tensors are ghosts.

    ``traffic`` and ``kernels`` sum the bytes read and written, and the operations that are not mere views. ``autocast``
    is the precision in force: it cannot be seen where operations arrive, yet still holds inside those of a user's own.
    """

    def __init__(self, device_type: str, answers: Answers) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger = Ledger(512 if device_type == "cuda" else 1)
        self.traffic = 0
        self.kernels = 0
        self.autocast: torch.dtype | None = None
        self._on_cuda = device_type == "cuda"
        self._answers = answers

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or every operation takes a detour by which its caller is no longer to be seen

    def like(self, tensor: Tensor) -> Ghost:
        """A ghost of a dense tensor's shape, strides and dtype."""
        return self._ghost(form_of(tensor), self.ledger.allocate(tensor.nbytes))

    def _ghost(self, form: Form, storage: Storage) -> Ghost:
        shape, strides, dtype = form
        ghost = Tensor._make_wrapper_subclass(
            CudaGhost if self._on_cuda else Ghost, shape, strides=strides, dtype=dtype, device=_CPU
        )
        ghost.held, ghost.form = storage, form
        return ghost

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors: list[Tensor] = []
        signature: list[Any] = [func]
        _sign(args, tensors, signature)
        for name, value in (kwargs or {}).items():
            signature.append(name)
            _sign((value,), tensors, signature)
        if not any(isinstance(tensor, Ghost) for tensor in tensors) and (tensors or func.namespace != "aten"):
            return func(*args, **(kwargs or {}))
        self.ledger.op = str(func)
        if func is aten.add.Tensor and _accumulates(*args[:2]):
            self.kernels += 1
            return self._ghost(args[0].form, args[0].held)
        inside = None if func.namespace == "aten" else self.autocast
        key = (*signature, inside)
        known = self._answers.get(key)
        if known is None:
            known = self._answers[key] = answer(func, args, kwargs or {}, exact=not self._on_cuda, autocast=inside)
        if known.traffic:
            self.traffic += known.traffic
            self.kernels += 1
        if known.workspace:
            self.ledger.work(known.workspace)
        outputs = [self._realise(output, tensors) for output in known.outputs]
        return outputs[0] if known.container is None else known.container(outputs)

    def _realise(self, output: Output, tensors: Sequence[Tensor]) -> Any:
        if isinstance(output, Fresh):
            return self._ghost(output.form, self.ledger.allocate(output.nbytes))
        if isinstance(output, View):
            base = tensors[output.of]
            return self._ghost(output.form, base.held if isinstance(base, Ghost) else self.ledger.allocate(0))
        return tensors[output.of] if isinstance(output, Same) else output.value


_CPU = torch.device("cpu")


def _sign(values: Sequence[Any], tensors: list[Tensor], signature: list[Any]) -> None:
    """Append to ``signature`` what of ``values`` determines an operation's outputs, to ``tensors`` those among them."""
    for value in values:
        if isinstance(value, Ghost):
            tensors.append(value)
            signature.append(value.form)
        elif isinstance(value, Tensor):
            tensors.append(value)
            signature.append(form_of(value))
        elif isinstance(value, (list, tuple)):
            signature.append(len(value))
            _sign(value, tensors, signature)
        elif isinstance(value, (bool, float)):
            signature.append((type(value), value))  # True == 1 == 1.0, but a sum with 1.0 is no integer
        else:
            signature.append(value)


_SOLE_USE = 4
"""References to a tensor in C++ when autograd's engine alone holds it, as a dispatch mode counts them."""
_SOLE_HOLD = 2
"""References to the storage of a single ghost: the ghost's, and the question's own."""


def _accumulates(first: Any, second: Any) -> bool:
    """Whether autograd's engine adds two gradients of one tensor where, on the device, it would add into the first.

    It does that if nothing else holds the first (torch/csrc/autograd/input_buffer.cpp), never while a mode is active.
    """
    return (
        sys._getframe(2).f_code is _engine_run_backward.__code__
        and isinstance(first, Ghost)
        and isinstance(second, Tensor)
        and first.form == form_of(second)
        and first._use_count() <= _SOLE_USE
        and sys.getrefcount(first.held) <= _SOLE_HOLD
    )
