from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from PIL import Image

WriteFolder: TypeAlias = Callable[..., None]


def _write(root: Path, per_class: int, classes: str = "abc", first: int = 0) -> None:
    """Pictures of class i have red 80 (first + i); green and blue differ between the pictures."""
    for label, name in enumerate(classes, first):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            Image.new("RGB", (40, 30), (80 * label, 5 * (i % 50), i // 50)).save(root / name / f"{i}.png")


@pytest.fixture
def write_folder() -> WriteFolder:
    """Writes `per_class` pictures of each class into a folder."""
    return _write


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
