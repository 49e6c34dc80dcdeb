"""Inspection reports the contents of a folder before the search, for all usual layouts."""

import os
import random
import shutil
import socket
import unicodedata
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainers import DataConfig, DataError, load_data
from trainers.datasets import Inspection, inspect_folder, inspection, tree

WriteFolder = Callable[..., None]


def counts(found: Inspection) -> dict[str, dict[str, int]]:
    """Split -> class -> number of pictures."""
    return {
        name: {found.classes[label]: int(count) for label, count in enumerate(per_class)}
        for name, per_class in found.counts().items()
    }


class TestLayout:
    @pytest.mark.parametrize("val", ["val", "Val", "valid", "VALIDATION"])
    @pytest.mark.parametrize("train", ["train", "Train", "training"])
    def test_splits_go_by_their_usual_names(
        self, write_folder: WriteFolder, tmp_path: Path, train: str, val: str
    ) -> None:
        for name, count in ((train, 4), (val, 2), ("Test", 3)):
            write_folder(tmp_path / name, count, classes="ab")
        assert counts(inspect_folder(tmp_path)) == {
            "train": {"a": 4, "b": 4},
            "val": {"a": 2, "b": 2},
            "test": {"a": 3, "b": 3},
        }

    def test_a_class_named_train_is_not_a_split(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        for name in ("bus", "train", "val"):
            write_folder(tmp_path, 3, classes=[name])
        assert inspect_folder(tmp_path).classes == ("bus", "train", "val")

    def test_an_ambiguous_folder_is_an_error(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        write_folder(tmp_path, 3, classes=["bus"])
        write_folder(tmp_path / "train", 3, classes=["2019", "2020"])
        with pytest.raises(DataError, match="may be the training split, or a class beside bus") as caught:
            inspect_folder(tmp_path)
        assert str(caught.value).endswith("Set data.layout=splits or data.layout=classes")
        assert inspect_folder(tmp_path, layout="classes").classes == ("bus", "train")
        assert inspect_folder(tmp_path, layout="splits").classes == ("2019", "2020")

    def test_two_folders_for_one_split(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        for name in ("train", "val", "valid"):
            write_folder(tmp_path / name, 3)
        with pytest.raises(DataError, match=r"val and valid in .* both go by the name of the val split; rename"):
            inspect_folder(tmp_path)

    @pytest.mark.parametrize("inside", ["", "unknown/"])
    def test_a_test_set_without_labels_is_left_out_with_a_warning(
        self, write_folder: WriteFolder, tmp_path: Path, inside: str
    ) -> None:
        write_folder(tmp_path / "train", 20)
        (tmp_path / "test" / inside).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / "test" / inside / f"{i}.png")
        found = inspect_folder(tmp_path)
        assert list(found.parts) == ["train"]
        assert [line for line in found.warnings if "no label" in line] == [
            f"left out: test/{inside}0.png, test/{inside}1.png, test/{inside}2.png and 1 more "
            "(no label: the split has no class folders)"
        ]
        assert len(load_data(DataConfig(name="imagefolder", root=str(tmp_path))).test) == 6

    def test_one_class_name_in_two_spellings(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        write_folder(tmp_path / "train", 3, classes=[unicodedata.normalize("NFC", "café"), "dog"])
        write_folder(tmp_path / "val", 2, classes=[unicodedata.normalize("NFD", "café"), "dog"])
        found = inspect_folder(tmp_path)
        assert counts(found) == {"train": {"café": 3, "dog": 3}, "val": {"café": 2, "dog": 2}}
        assert all((found.parts["val"].folder / os.fsdecode(path)).is_file() for path in found.parts["val"].paths)

    @pytest.mark.parametrize(
        ("folders", "told"),
        [
            ([], "has 0 class folders with pictures and needs at least 2"),
            (["a"], "has 1 class folders with pictures and needs at least 2"),
            (["train/a", "train/b", "val/a", "val/c"], "val/c is no class of the training data; remove it or add it"),
            (["train/a", "train/b", "val/A"], "val/A is no class of the training data, which has a; remove it"),
            (["train"], "train has 0 class folders and needs at least 2"),
        ],
    )
    def test_what_is_wrong_with_the_tree_is_told(
        self, write_folder: WriteFolder, tmp_path: Path, folders: list[str], told: str
    ) -> None:
        for folder in folders:
            write_folder(tmp_path, 1, classes=[folder])
        with pytest.raises(DataError) as caught:
            inspect_folder(tmp_path)
        assert told in str(caught.value)
        assert str(tmp_path) in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 2

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="absent is no folder"):
            inspect_folder(tmp_path / "absent")


def test_what_is_removed_meanwhile_is_left_out(
    write_folder: WriteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path, 5, classes="abc")
    listed = tree._entries

    def removing(of: tree.Tree, folder: str) -> list[os.DirEntry[str]]:
        found = listed(of, folder)
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        (tmp_path / "a" / "0.png").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(tree, "_entries", removing)
    found = inspect_folder(tmp_path)
    assert found.classes == ("a", "b")
    assert found.left_out["removed while the folder was read"] == ("c",)


class TestLeftOut:
    @pytest.fixture
    def found(self, write_folder: WriteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspection:
        write_folder(tmp_path, 5)
        one = (tmp_path / "a" / "0.png").read_bytes()
        (tmp_path / "a" / "._0.png").write_bytes(b"AppleDouble")
        (tmp_path / "a" / "Thumbs.db").write_bytes(b"")
        (tmp_path / ".ipynb_checkpoints").mkdir()
        (tmp_path / ".ipynb_checkpoints" / "x.png").write_bytes(one)
        (tmp_path / "b" / ".ipynb_checkpoints").mkdir()
        (tmp_path / "b" / ".ipynb_checkpoints" / "x.png").write_bytes(one)
        (tmp_path / "a" / "x.heic").write_bytes(b"")
        (tmp_path / "a" / "y.HEIC").write_bytes(b"")
        (tmp_path / "a" / "README").write_bytes(b"")
        (tmp_path / "a" / "gone.png").symlink_to("nowhere.png")
        (tmp_path / "a" / "self").symlink_to("self")
        (tmp_path / "a" / "null.png").symlink_to("/dev/null")
        for pipe in (tmp_path / "pipe", tmp_path / "a" / "pipe.png"):
            os.mkfifo(pipe)
        monkeypatch.chdir(tmp_path)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("a/socket.png")
        (tmp_path / "a" / "again").symlink_to("../a")
        (tmp_path / "a" / "up").symlink_to("../..")
        (tmp_path / "empty").mkdir()
        (tmp_path / "notes.png").write_bytes(one)
        for folder in (tmp_path / "run", tmp_path / "c" / "run"):
            (folder / "report").mkdir(parents=True)
            (folder / "journal.log").touch()
            (folder / "report" / "front.png").write_bytes(one)
        return inspect_folder(tmp_path)

    def test_ignored_files_are_not_counted(self, found: Inspection) -> None:
        assert counts(found) == {"train": {"a": 5, "b": 5, "c": 5}}

    def test_ignored_files_are_named(self, found: Inspection) -> None:
        assert {reason: sorted(paths) for reason, paths in found.left_out.items()} == {
            "hidden or system file": ["a/._0.png", "a/Thumbs.db"],
            "hidden or system folder": [".ipynb_checkpoints", "b/.ipynb_checkpoints"],
            "ending .heic, which is not read": ["a/x.heic", "a/y.HEIC"],
            "no ending": ["a/README"],
            "broken link": ["a/gone.png"],
            "link to itself": ["a/self"],
            "named pipe": ["a/pipe.png"],
            "socket": ["a/socket.png"],
            "character device": ["a/null.png"],
            "link that leads back to a folder above it": ["a/again", "a/up"],
            "class folder without a picture": ["empty"],
            "file beside the class folders": ["notes.png"],
            "named pipe beside the class folders": ["pipe"],
            "folder of a search or a training": ["c/run", "run"],
        }

    def test_what_a_user_may_have_meant_is_a_warning(self, found: Inspection) -> None:
        assert len(found.warnings) == 12
        assert not any("hidden" in line for line in found.warnings)
        assert "left out: a/x.heic, a/y.HEIC (ending .heic, which is not read)" in found.warnings


class TestUnreadable:
    def test_a_few_are_left_out_and_named(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        write_folder(tmp_path, 20)
        (tmp_path / "a" / "3.png").write_bytes((tmp_path / "a" / "3.png").read_bytes()[:-40])
        found = inspect_folder(tmp_path)
        assert list(found.unreadable) == ["a/3.png"]
        assert counts(found) == {"train": {"a": 19, "b": 20, "c": 20}}
        assert any(line.startswith("left out, because they cannot be read: a/3.png (") for line in found.warnings)

    def test_more_than_a_share_is_an_error_that_names_them(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        write_folder(tmp_path, 20)
        for i in range(5):
            (tmp_path / "a" / f"{i}.png").write_bytes(b"no picture")
        with pytest.raises(
            DataError, match=r"5 of 60 pictures .* a/0.png \(no picture in a format that is read\), .* and 2 more\."
        ) as told:
            inspect_folder(tmp_path)
        assert str(told.value).endswith("Repair or remove them, or raise data.max_unreadable (now 0.01)")
        assert len(inspect_folder(tmp_path, max_unreadable=0.1).unreadable) == 5

    def test_pictures_that_are_refused_say_why(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        write_folder(tmp_path, 3)
        for i in range(3):
            Image.fromarray(np.full((8, 8), i, np.float32)).save(tmp_path / "a" / f"{i}.tif")
        with pytest.raises(DataError, match=r"a/0\.tif \(32-bit float pixels have no fixed white; save it with 8 or"):
            inspect_folder(tmp_path)


class TestTold:
    def test_validation_that_shares_pictures_with_training(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        write_folder(tmp_path / "train", 6)
        write_folder(tmp_path / "val", 2)  # the same pictures
        shutil.copy(tmp_path / "train" / "c" / "5.png", tmp_path / "val" / "c" / "other name.png")
        (tmp_path / "val" / "c" / "link.png").symlink_to(tmp_path / "train" / "c" / "4.png")
        assert [line for line in inspect_folder(tmp_path).warnings if "too good" in line] == [
            f"8 of the 8 pictures in {tmp_path / 'val'} are in the training data too, with the same content, "
            "so metrics on them are too good"
        ]

    def test_one_content_in_two_classes(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        write_folder(tmp_path, 6)
        shutil.copy(tmp_path / "a" / "0.png", tmp_path / "b" / "x.png")
        assert (
            "1 picture of the training data in two classes at once, with the same content"
            in inspect_folder(tmp_path).warnings
        )

    @pytest.mark.parametrize(
        ("classes", "told"),
        [("a", "has only class a, so a constant answer is always right"), ("ab", "has no picture of c")],
    )
    def test_validation_without_a_class(
        self, write_folder: WriteFolder, tmp_path: Path, classes: str, told: str
    ) -> None:
        write_folder(tmp_path / "train", 6)
        write_folder(tmp_path / "val", 3, classes=classes, first=7)
        assert f"{tmp_path / 'val'} {told}" in inspect_folder(tmp_path).warnings

    def test_a_class_with_too_few(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        write_folder(tmp_path, 6)
        write_folder(tmp_path, 2, classes="d", first=3)
        expected = "classes with too few pictures for train, validation and test: d (2)"
        assert expected in inspect_folder(tmp_path).warnings

    def test_sizes_kinds_and_transparency(self, tmp_path: Path) -> None:
        for name, mode, size in (("a", "RGB", (8, 4)), ("b", "RGBA", (20, 10)), ("b", "L", (9, 9))):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new(mode, size).save(tmp_path / name / f"{mode}.png")
        found = inspect_folder(tmp_path)
        assert found.sizes == ((8, 4), (9, 9), (20, 10))
        assert found.modes == {"RGB": 1, "RGBA": 1, "L": 1}
        assert "1 picture with transparent parts: shown over white" in found.warnings


class TestCache:
    @pytest.fixture
    def looks(self, write_folder: WriteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        """The files that the inspection opens."""
        write_folder(tmp_path / "data", 4)
        monkeypatch.setattr(inspection, "_KEPT_FROM", 1)
        seen: list[Path] = []
        look = inspection.look
        monkeypatch.setattr(inspection, "look", lambda path: seen.append(path) or look(path))
        return seen

    def test_only_what_has_changed_is_looked_at_again(self, looks: list[Path], tmp_path: Path) -> None:
        first = inspect_folder(tmp_path / "data")
        assert len(looks) == 12
        assert inspect_folder(tmp_path / "data").to_dict() == first.to_dict()
        assert len(looks) == 12
        changed = tmp_path / "data" / "a" / "0.png"
        changed.write_bytes(b"x")
        assert list(inspect_folder(tmp_path / "data").unreadable) == ["a/0.png"]
        assert looks[12:] == [changed]

    def test_a_damaged_cache_is_ignored(self, looks: list[Path], tmp_path: Path) -> None:
        first = inspect_folder(tmp_path / "data")
        (cache,) = Path(os.environ["XDG_CACHE_HOME"]).rglob("*.gz")
        cache.write_bytes(cache.read_bytes()[:100])
        assert inspect_folder(tmp_path / "data").to_dict() == first.to_dict()
        assert len(looks) == 24

    def test_a_cache_that_cannot_be_written_is_no_error(
        self, looks: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert inspect_folder(tmp_path / "data").classes == ("a", "b", "c")
        assert not list((tmp_path / "data").glob(".*"))  # nothing is ever written into the data


def test_without_a_home_nothing_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", lambda _: Path.home())
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert inspection._cache_of(Path("pictures")) is None


def test_progress_ends_at_the_number_of_files(write_folder: WriteFolder, tmp_path: Path) -> None:
    write_folder(tmp_path, 40)
    told: list[tuple[int, int]] = []
    inspect_folder(tmp_path, progress=lambda *at: told.append(at))
    assert told == [(100, 120), (120, 120)]


# --- fuzz -------------------------------------------------------------------------------------------------------------


def mutate(root: Path, rng: random.Random) -> None:
    """Applies one random change to a folder of pictures."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    folders = sorted(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink()) or [root]
    file, folder = rng.choice(files), rng.choice(folders)
    content = file.read_bytes()
    match rng.randrange(10):
        case 0:
            file.write_bytes(content[: rng.randrange(len(content) + 1)])
        case 1:
            changed = bytearray(content or b"x")
            for _ in range(rng.randint(1, 8)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            file.write_bytes(changed)
        case 2:
            (
                folder / rng.choice(["._x.png", ".x", "Thumbs.db", "x.heic", "x", "x.PNG", "x.jfif", "\n.png"])
            ).write_bytes(content)
        case 3:
            (folder / f"link{rng.randrange(99)}").symlink_to(rng.choice([".", "..", "../..", "gone", folder, file]))
        case 4:
            file.rename(folder / f"{rng.randrange(99)}{rng.choice(['.png', '.jpg', '.gif', '.tif', '.txt', ''])}")
        case 5:
            name = rng.choice(["Train", "val", "Valid", "test", ".hidden", "é", "e\u0301", "[b]", " ", "empty"])
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "x.png").write_bytes(content)
        case 6:
            kind, ending = rng.choice([(np.float32, "tif"), (np.int32, "tif"), (np.uint16, "png"), (np.uint8, "gif")])
            Image.fromarray(np.full((5, 7), 99, kind)).save(folder / f"n{rng.randrange(9)}.{ending}")
        case 7:
            file.unlink()
        case 8:
            (folder / "journal.log").touch()
        case 9:
            (root / os.fsdecode(b"bad\xff")).mkdir(exist_ok=True)
            (root / os.fsdecode(b"bad\xff") / os.fsdecode(b"\xfe.png")).write_bytes(content)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of EXIF and TIFF tags that are damaged; the picture counts
@pytest.mark.parametrize("block", range(10))
def test_every_damage_of_a_folder_is_reported(
    write_folder: WriteFolder, tmp_path: Path, block: int, bounded: Callable[[object], AbstractContextManager[None]]
) -> None:
    """300 folders: only our exceptions are raised, and every file is counted or reported."""
    outcomes = {"read": 0, "refused": 0}
    for number in range(30 * block, 30 * block + 30):
        rng = random.Random(number)
        root = tmp_path / str(number)
        if rng.random() < 0.3:
            write_folder(root / "train", 4)
            write_folder(root / "val", 2)
        else:
            write_folder(root, rng.choice([3, 8]))
        for _ in range(rng.randint(1, 5)):
            mutate(root, rng)
        config = DataConfig(
            name="imagefolder", root=str(root), image_size=8, in_memory=True, max_unreadable=rng.choice([0.0, 0.1, 0.5])
        )
        refused = ""
        with bounded(number):
            try:
                found = inspect_folder(root, max_unreadable=config.max_unreadable)
                data = load_data(config)
            except DataError as error:
                refused = str(error)
        if refused:
            assert len(refused.splitlines()) <= 2, refused
            assert refused.startswith(("imagefolder: ", str(root))), refused
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        kept = {part.folder / os.fsdecode(path) for part in found.parts.values() for path in part.paths.tolist()}
        told = {root / path for paths in found.left_out.values() for path in paths}
        told |= {root / path for path in found.unreadable}
        silent = [
            path for path in root.rglob("*") if path.is_file() and path not in kept and not told & {path, *path.parents}
        ]
        assert not silent
        assert len(data.train) + len(data.val) + len(data.test) <= len(kept)
        assert "\n" not in "".join(found.warnings)
    assert min(outcomes.values()) > 0, outcomes
