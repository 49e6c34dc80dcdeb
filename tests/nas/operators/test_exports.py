"""The table of `docs/operators.md` says where every operator can go, and it is so."""

from pathlib import Path

import pytest

from nas.operators import OPERATORS
from nas.operators.exports import COLUMNS, SLOW, cell

PAGE = Path(__file__).parents[3] / "docs" / "operators.md"


def documented() -> dict[str, dict[str, str]]:
    """Operator -> column -> cell of the page's table."""
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


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
def test_the_table_is_true_of_what_takes_seconds(name: str) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    found = {column: cell(name, column) for column in SLOW}
    wanted = documented()[name]
    assert {column: answer for column, (answer, _) in found.items()} == {column: wanted[column] for column in found}, (
        found
    )
