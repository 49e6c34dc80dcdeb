"""The parts of `benchmarks/reference.py` that decide what a reference table holds."""

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from launch.rundir.config import load_run
from search_spaces import Architecture, load_space

if TYPE_CHECKING:
    from reference import Table

SPACE = load_space("shapes")


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import reference

    return reference


def table(reference: ModuleType) -> "Table":
    placements = [
        reference.Placement(name, name != "aa", {"params": 1.5}, architecture)
        for name, architecture in SPACE.baselines().items()
    ]
    return reference.Table(reference.settings_of(load_run("shapes"), SPACE, 5), placements, [])


def test_every_kind_of_placement_is_drawn_within_the_budget(reference: ModuleType) -> None:
    def fits(architecture: Architecture) -> bool:
        return all(choice.option != "cbam" for slots in architecture.placements.values() for choice in slots.values())

    drawn = reference.drawn(SPACE, 25, fits)
    assert list(drawn)[:5] == list(SPACE.baselines().values())
    assert drawn == reference.drawn(SPACE, 25, fits)
    kinds = [kind for kind, _ in drawn.values()]
    assert [kinds.count(kind) for kind in ("single", "uniform", "mixed")] == [
        5,
        2,
        13,
    ]  # the space has no more uniform ones
    assert [kind for kind, within in drawn.values() if not within] == ["cbam"]
    assert all(SPACE.contains(architecture) for architecture in list(drawn)[5:])
    assert all(within == fits(architecture) for architecture, (_, within) in drawn.items())


def test_single_placements_hold_one_option_and_uniform_ones_the_same_in_all_blocks(reference: ModuleType) -> None:
    def held(architecture: Architecture) -> list[str]:
        options = [choice.option for slots in architecture.placements.values() for choice in slots.values()]
        return sorted(option for option in options if option not in ("plain", "none"))

    assert {tuple(held(one)) for one in reference.single(SPACE)} == {("aa",), ("aw",), ("cbam",), ("se",)}
    assert ["aw", "aw", "aw", "se", "se", "se"] in [held(one) for one in reference.uniform(SPACE)]


def test_a_table_is_read_as_it_was_written(reference: ModuleType, tmp_path: Path) -> None:
    written = table(reference)
    written.trainings.append(reference.Trained(1, 0, 12.5, (0.25, 0.5)))
    written.write(tmp_path / "new" / "t.json")
    assert reference.Table.read(tmp_path / "new" / "t.json", SPACE) == written
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["t.json"]


def test_what_is_trained_is_not_trained_again_and_seeds_come_one_after_another(reference: ModuleType) -> None:
    begun = table(reference)
    begun.trainings = [reference.Trained(place, 0, 1.0, (0.1,)) for place in (0, 1, 3)]
    assert reference.lacking(begun, 2)[:3] == [(0, 2), (0, 4), (1, 0)]
    assert reference.lacking(begun, 0) == []


def test_only_seeds_that_all_placements_have_are_compared(reference: ModuleType) -> None:
    begun = table(reference)
    begun.trainings = [reference.Trained(place, 0, 1.0, (place / 10,)) for place in (3, 1)]
    assert begun.accuracies()[:2] == ([0], [1, 3])
    begun.trainings = [reference.Trained(p, s, 1.0, (p / 10,)) for s in range(3) for p in range(5 - (s == 2))]
    seeds, places, found = begun.accuracies()
    assert (seeds, places) == ([0, 1], [0, 1, 2, 3, 4])
    assert found[1, :, 0].tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_a_table_with_other_settings_is_refused(
    reference: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "t.json"
    table(reference).write(file)
    before = file.read_text()
    words = ["reference.py", "shapes", "--table", str(file), "--seeds", "0", "--placements", "5"]
    monkeypatch.setattr(sys, "argv", words)
    reference.main()
    monkeypatch.setattr(sys, "argv", [*words, "--set", "trainer.lr=0.5"])
    with pytest.raises(SystemExit, match=r"other settings \(trainer\): restore them, or begin a table with --table"):
        reference.main()
    assert file.read_text() == before
