"""The table of exports in `docs/operators.md` is true for every operator."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nas.operators import OPERATORS
from nas.operators.aw import scaled_conv
from nas.operators.exports import COLUMNS, SLOW, cell
from search_spaces.options import OPTIONS, resolve
from search_spaces.sites import Site, Value

PAGE = Path(__file__).parents[3] / "docs" / "operators.md"


def documented() -> dict[str, dict[str, str]]:
    """Operator -> column -> cell of the table."""
    text = PAGE.read_text().partition("<!-- python -m nas.operators.exports -->")[2].strip()
    lines = [line.strip("| ").split(" | ") for line in text.split("\n\n")[0].splitlines()]
    return {name: dict(zip(lines[0][1:], cells, strict=True)) for name, *cells in lines[2:]}


def test_the_table_has_every_operator_and_column() -> None:
    assert {name: list(cells) for name, cells in documented().items()} == {name: list(COLUMNS) for name in OPERATORS}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_table_is_true(name: str) -> None:
    found = {column: cell(name, column) for column in COLUMNS if column not in SLOW}
    wanted = documented()[name]
    assert {column: answer for column, (answer, _) in found.items()} == {column: wanted[column] for column in found}, (
        found
    )


@pytest.mark.parametrize(
    ("name", "params", "stride"),
    [
        ("aw", {}, 2),
        ("aa", {"position": "coordconv"}, 1),
        ("aa", {"position": "sine"}, 2),
        ("aa", {"downsample": True}, 2),
    ],
)
def test_exported_with_an_open_batch_and_size(name: str, params: dict[str, Value], stride: int) -> None:
    site = Site("conv", 16, 16, size=6, kernel_size=3, stride=stride)
    torch.manual_seed(0)
    module = OPERATORS[name].build(site, resolve(OPTIONS[name], params, site)).eval()
    # A map that pools to one pixel is a program of its own.
    size = {2: torch.export.Dim("height", min=5, max=64), 3: torch.export.Dim("width", min=5, max=64)}
    shapes = ({0: torch.export.Dim("batch"), **size},)
    program = torch.export.export(module, (torch.randn(2, 16, 6, 6),), dynamic_shapes=shapes).module()
    images = torch.randn(3, 16, 11, 8)
    torch.testing.assert_close(program(images), module(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (5, 4)])
@pytest.mark.parametrize("stride", [1, 2])
def test_recorded_aw_is_right_on_maps_smaller_than_its_kernel(size: tuple[int, int], stride: int) -> None:
    torch.manual_seed(0)
    x, weight, scale = torch.randn(2, 3, *size), torch.randn(4, 3, 5, 5), torch.rand(2, 4, 5, 5) + 1

    class Scaled(nn.Module):
        def forward(self, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
            return scaled_conv(x, weight, scale, stride)

    program = torch.export.export(Scaled(), (x, weight, scale)).module()
    torch.testing.assert_close(program(x, weight, scale), scaled_conv(x, weight, scale, stride), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.repeated
@pytest.mark.parametrize("name", OPERATORS)
def test_the_table_is_true_slow_cells(name: str) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    found = {column: cell(name, column) for column in SLOW}
    wanted = documented()[name]
    assert {column: answer for column, (answer, _) in found.items()} == {column: wanted[column] for column in found}, (
        found
    )
