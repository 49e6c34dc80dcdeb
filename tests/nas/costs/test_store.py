from pathlib import Path

import pytest

from nas.costs.store import Store


def test_what_one_wrote_another_reads(tmp_path: Path) -> None:
    path = tmp_path / "run" / "costs.jsonl"
    one, other = Store(path), Store(path)
    assert other.get("a") is None
    one.put("a", {"value": 1})
    assert other.get("a") == {"value": 1}
    other.put("b", {"value": 2})
    assert one.get("b") == {"value": 2}


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    Store(path).put("a", {"value": 1})
    with path.open("ab") as file:
        file.write(b'{"key": "torn", "val')
    store = Store(path)
    assert store.get("a") == {"value": 1}
    assert store.get("torn") is None
    store.put("b", {"value": 2})
    assert Store(path).get("b") == {"value": 2}
    assert Store(path).get("torn") is None


def test_the_later_record_counts(tmp_path: Path) -> None:
    store = Store(tmp_path / "costs.jsonl")
    store.put("a", {"value": 1})
    store.put("a", {"value": 2})
    assert Store(tmp_path / "costs.jsonl").get("a") == {"value": 2}


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(None)
    store.put("a", {"value": 1})
    assert store.get("a") == {"value": 1}
    assert not list(tmp_path.iterdir())
