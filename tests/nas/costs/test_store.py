import json
import warnings
from pathlib import Path

import pytest

from nas.costs import CostEstimate
from nas.costs.store import DamagedCosts, Store

ONE, TWO = (CostEstimate(value, value, value, "ms", "measured") for value in (1.0, 2.5))


def test_another_store_reads_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "run" / "costs.jsonl"
    one, other = Store(path), Store(path)
    assert other.get("a") is None
    one.put("a", ONE)
    assert other.get("a") == ONE
    other.put("b", TWO)
    assert one.get("b") == TWO


def test_an_incomplete_line_loses_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    Store(path).put("a", ONE)
    with path.open("ab") as file:
        file.write(b'{"key": "torn", "val')
    store = Store(path)
    assert store.get("a") == ONE
    assert store.get("torn") is None
    store.put("b", TWO)
    with pytest.warns(DamagedCosts, match="1 of 3 lines"):
        assert Store(path).get("b") == TWO


def _flipped(line: bytes) -> list[bytes]:
    """All copies of the line with one flipped bit."""
    return [bytes([*line[:i], line[i] ^ 1 << bit, *line[i + 1 :]]) for i in range(len(line)) for bit in range(8)]


def test_a_line_with_a_flipped_bit_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    Store(path).put("a", TWO)
    line = path.read_bytes()[:-1]
    for number, damaged in enumerate(flipped for flipped in _flipped(line) if b"\n" not in flipped):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(damaged + b"\n")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DamagedCosts)
            assert Store(path).get("a") is None, damaged


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "no JSON",
        '{"key": "a"}',
        '{"key": "a", "value": NaN, "lower": NaN, "upper": NaN, "unit": "ms", "source": "measured"}',
        '{"key": "a", "value": 2, "lower": 3, "upper": 4, "unit": "ms", "source": "measured"}',
        '{"key": "a", "value": "x", "lower": 3, "upper": 4, "unit": "ms", "source": "measured"}',
        '{"key": "a", "value": 2, "lower": 2, "upper": 2, "unit": "miles", "source": "measured"}',
        '{"key": "a", "value": 2, "lower": 2, "upper": 2, "unit": "ms", "source": "guessed"}',
    ],
)
def test_lines_that_are_not_estimates_are_skipped(tmp_path: Path, line: str) -> None:
    path = tmp_path / "costs.jsonl"
    path.write_text(f"{line}\n")
    store = Store(path)
    with pytest.warns(DamagedCosts, match=r"costs\.jsonl: 1 of 1 lines"):
        assert store.get("a") is None
    with path.open("a") as file:
        file.write("more of it\n")
    assert store.get("a") is None  # no second warning
    store.put("a", ONE)
    assert store.get("a") == ONE


def test_lines_without_a_checksum_are_read(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    line = {"key": "a", "value": 1.0, "lower": 1.0, "upper": 1.0, "unit": "ms", "source": "measured"}
    path.write_text(f"{json.dumps(line)}\n")
    assert Store(path).get("a") == ONE


def test_the_later_record_counts(tmp_path: Path) -> None:
    store = Store(tmp_path / "costs.jsonl")
    store.put("a", ONE)
    store.put("a", TWO)
    assert Store(tmp_path / "costs.jsonl").get("a") == TWO


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(None)
    store.put("a", ONE)
    assert store.get("a") == ONE
    assert not list(tmp_path.iterdir())
