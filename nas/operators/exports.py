"""Tests how each operator can be exported, traced, compiled, quantised and differentiated; prints the docs' table.

    python -m nas.operators.exports              # the table; --why adds the reasons of each "no"

Every cell is the result of a test on a small map with the option's defaults: the output must equal the operator's own.
ONNX needs the packages onnx, onnxscript and onnxruntime.
"""

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.export import Dim

from nas.operators import operators
from search_spaces.options import options, resolve
from search_spaces.sites import Site

_CONVOLUTION = Site("conv", 16, 16, size=6, kernel_size=3)
_MAP = Site("refine", 16, 16, size=6)
_OPEN = ({2: Dim("height", min=4, max=64), 3: Dim("width", min=4, max=64)},)
_BATCH = ({0: Dim("batch")},)


class NothingToDo(Exception):
    """The test does not apply to this operator."""


def _images(batch: int = 2, height: int = 6, width: int = 6) -> Tensor:
    return torch.randn(batch, 16, height, width, generator=torch.Generator().manual_seed(0))


_LARGER = 11, 8
"""Height and width of another map, with relative positions for which the operator was not built."""


def _same(found: Tensor, wanted: Tensor, rtol: float = 1e-4) -> None:
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=1e-4)


def _static(module: nn.Module) -> None:
    program = torch.export.export(module, (_images(),)).module()
    _same(program(_images()), module(_images()))


def _dynamic_batch(module: nn.Module) -> None:
    program = torch.export.export(module, (_images(),), dynamic_shapes=_BATCH).module()
    for batch in (3, 1, 0):
        _same(program(_images(batch)), module(_images(batch)))


def _dynamic_size(module: nn.Module) -> None:
    program = torch.export.export(module, (_images(),), dynamic_shapes=_OPEN).module()
    for size in (_LARGER, (6, 6), (4, 5)):
        _same(program(_images(2, *size)), module(_images(2, *size)))


def _onnx(module: nn.Module, dynamic: object, inputs: Iterable[Tensor]) -> None:
    import onnxruntime  # noqa: PLC0415 - a development package

    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        program = torch.onnx.export(module, (_images(),), dynamo=True, dynamic_shapes=dynamic, verbose=False)  # type: ignore[arg-type]
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    name = session.get_inputs()[0].name
    for images in inputs:
        _same(torch.from_numpy(session.run(None, {name: images.numpy()})[0]), module(images))


def _onnx_batch(module: nn.Module) -> None:
    _onnx(module, _BATCH, (_images(3), _images(1)))


def _onnx_size(module: nn.Module) -> None:
    _onnx(module, _OPEN, (_images(2, *_LARGER), _images()))


def _trace(module: nn.Module) -> None:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, _images(), check_trace=False), file)  # type: ignore[no-untyped-call]
    file.seek(0)
    traced = torch.jit.load(file)  # type: ignore[no-untyped-call]
    for images in (_images(), _images(3), _images(2, *_LARGER)):
        _same(traced(images), module(images))


def _compile(module: nn.Module) -> None:
    torch.compiler.reset()
    images = _images().requires_grad_()
    out = torch.compile(module, fullgraph=True, backend="aot_eager")(images)
    _same(out, module(images))
    gradients = [torch.autograd.grad(result.square().sum(), images)[0] for result in (out, module(images))]
    _same(gradients[0], gradients[1])


def _int8(module: nn.Module) -> None:
    if not any(isinstance(layer, nn.Linear) for layer in module.modules()):
        raise NothingToDo
    quantised = torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, torch.qint8)  # type: ignore[no-untyped-call]
    assert any("quantized" in type(layer).__module__ for layer in quantised.modules())
    error = (quantised(_images()) - module(_images())).norm() / module(_images()).norm()
    assert error < 0.05, f"relative error {error:.3f}"


def _forward_mode(module: nn.Module) -> None:
    module, images = module.double(), _images().double()
    along, step = torch.randn_like(images), 1e-6
    found = torch.func.jvp(module, (images,), (along,))[1]
    _same(found, (module(images + step * along) - module(images - step * along)) / (2 * step))


def _second_order(module: nn.Module) -> None:
    images = _images().double().requires_grad_()
    assert torch.autograd.gradgradcheck(module.double(), images, fast_mode=True)


COLUMNS: Mapping[str, Callable[[nn.Module], None]] = MappingProxyType(
    {
        "torch.export": _static,
        "open batch": _dynamic_batch,
        "open size": _dynamic_size,
        "ONNX, open batch": _onnx_batch,
        "ONNX, open size": _onnx_size,
        "jit.trace": _trace,
        "torch.compile": _compile,
        "int8 of linear": _int8,
        "forward mode": _forward_mode,
        "second order": _second_order,
    }
)
"""Title -> test; it raises if the operator does not support the use, or gives another result in it."""

SLOW = frozenset({"ONNX, open batch", "ONNX, open size", "torch.compile"})
"""Columns whose tests take seconds each."""


def module_of(name: str) -> nn.Module:
    """The operator with its option's defaults, in evaluation mode and with random parameters."""
    option = options()[name]
    site = _MAP if "refine" in option.slots else _CONVOLUTION
    torch.manual_seed(0)
    module = operators()[name].build(site, resolve(option, {}, site)).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def cell(name: str, column: str) -> tuple[str, str]:
    """``yes``, ``no`` or ``-`` (does not apply) for an operator, and the reason of a ``no`` on one line."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations, and sizes of parameters that a trace takes as fixed
            COLUMNS[column](module_of(name))
    except NothingToDo:
        return "-", ""
    except ImportError:
        raise
    except Exception as error:
        return "no", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    finally:
        logging.disable(logging.NOTSET)
    return "yes", ""


def table(names: Iterable[str], *, why: bool = False) -> Iterator[str]:
    """The lines of the table, in Markdown."""
    yield f"| operator | {' | '.join(COLUMNS)} |"
    yield "|---|" + "---|" * len(COLUMNS)
    reasons = []
    for name in names:
        cells = [cell(name, column) for column in COLUMNS]
        reasons += [f"{name}, {column}: {reason}" for column, (_, reason) in zip(COLUMNS, cells, strict=True) if reason]
        yield f"| {name} | {' | '.join(answer for answer, _ in cells)} |"
    if why:
        yield from reasons


if __name__ == "__main__":
    for line in table(operators(), why="--why" in sys.argv[1:]):
        print(line, flush=True)
