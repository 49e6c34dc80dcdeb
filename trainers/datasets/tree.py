"""Sorts the files of a folder by class and split, and records the files left out with the reason.

Only folders are opened here, no files.
"""

import errno
import os
import stat
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from trainers.datasets.base import DataError, decoded, shown
from trainers.datasets.pictures import extensions
from trainers.datasets.table import Layout

SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Split -> the possible names of its folder, in any case."""

_SYSTEM = ("thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "lost+found")
_RUN_FILES = ("journal.log", "checkpoint.pt")
"""Files that mark a folder of a search or a training."""

_KINDS = (
    (stat.S_ISFIFO, "named pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISBLK, "block device"),
    (stat.S_ISCHR, "character device"),
)
"""Test of a mode -> the kind of entry, for all that are neither file nor folder."""

NO_LABEL = "no label: the split has no class folders"
_VANISHED = "removed while the folder was read"

_Identity: TypeAlias = tuple[int, int]
"""Device and inode of a folder: equal for every path to it."""
_Ancestors: TypeAlias = frozenset[_Identity]


@dataclass(frozen=True, slots=True)
class File:
    """A file with a picture's ending, before it is opened."""

    path: str
    """Relative to the root."""
    size: int
    mtime_ns: int


@dataclass(slots=True)
class Tree:
    """The files below a root."""

    root: Path
    splits: dict[str, dict[str, list[File]]] = field(default_factory=dict)
    """Split -> class (NFC) -> its files. Without split folders, all files are ``train``."""
    folders: dict[str, str] = field(default_factory=dict)
    """Split -> its folder, relative to the root; `.` without split folders."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> files and folders, relative to the root."""

    def leave_out(self, reason: str, path: str) -> None:
        """Records why a file or folder is left out."""
        self.left_out.setdefault(reason, []).append(path)


def read_tree(root: Path, layout: Layout) -> Tree:
    """Sorts the files below `root` by split and class.

    Args:
        root: a folder with one folder per class, or with one folder per split that holds class folders.
        layout: which of the two; ``auto`` decides by the folders' names.

    Raises:
        DataError: there is no such folder, it holds no classes, or its layout is ambiguous.
    """
    tree = Tree(root)
    if not root.is_dir():
        raise DataError(
            f"imagefolder: {shown(root)} is no folder.\n"
            "data.root is the folder that holds one folder per class, or train/ and val/ or test/ with those"
        )
    place = root.resolve()
    here = frozenset(_identity(folder.stat()) for folder in (place, *place.parents))
    top = dict(_folders(tree, "", here))
    found = _split_folders(tree, top) if layout != "classes" else {}
    if layout == "splits" and not found:
        raise DataError(
            f"imagefolder: {shown(root)} has no folder train/, and data.layout is splits; leave data.layout out"
        )
    if layout == "auto" and found and not _is_split(tree, top, found):
        found = {}
    if not found:
        tree.folders, tree.splits = {"train": "."}, {"train": _classes(tree, "", top, here)}
        return tree
    for name in sorted(top.keys() - found.values()):
        tree.leave_out("folder beside the splits", name)
    for split, folder in found.items():
        above = here | {top[folder]}
        inside = dict(_folders(tree, folder, above))
        if split != "train" and not inside:
            for file in _files(tree, folder, above):
                tree.leave_out(NO_LABEL, file.path)
            continue
        tree.folders[split] = folder
        tree.splits[split] = _classes(tree, folder, inside, above)
    return tree


def _split_folders(tree: Tree, top: Mapping[str, _Identity]) -> dict[str, str]:
    """Split -> the folder with its name; empty without a training folder."""
    named = {split: sorted(name for name in top if name.casefold() in names) for split, names in SPLITS.items()}
    if not named["train"]:
        return {}
    for split, folders in named.items():
        if len(folders) > 1 and _holds_folders(tree, top, folders):
            raise DataError(
                f"imagefolder: {' and '.join(map(shown, folders))} in {shown(tree.root)} both go by the name of the "
                f"{split} split; rename or remove one, or set data.layout=classes if both are classes"
            )
    return {split: folders[0] for split, folders in named.items() if folders}


def _is_split(tree: Tree, top: Mapping[str, _Identity], found: Mapping[str, str]) -> bool:
    """Whether the folder `train` is a split and not a class of trains.

    Raises:
        DataError: it could be either.
    """
    train = found["train"]
    others = sorted(top.keys() - found.values())
    if not _holds_folders(tree, top, [train]):
        if others:
            return False
        raise DataError(
            f"imagefolder: {shown(tree.root / train)} has 0 class folders and needs at least 2.\n"
            "Sort its pictures into a folder per class; if it is a class itself, set data.layout=classes"
        )
    silent = Tree(tree.root)
    for name in others:
        if next(_files(silent, name, frozenset({top[name]})), None) is not None:
            raise DataError(
                f"imagefolder: {shown(tree.root / train)} may be the training split, or a class beside "
                f"{shown(name)}.\nSet data.layout=splits or data.layout=classes"
            )
    return True


def _holds_folders(tree: Tree, top: Mapping[str, _Identity], names: Sequence[str]) -> bool:
    silent = Tree(tree.root)
    return any(next(_folders(silent, name, frozenset({top[name]})), None) is not None for name in names)


def _classes(tree: Tree, folder: str, names: Mapping[str, _Identity], above: _Ancestors) -> dict[str, list[File]]:
    """Class -> files of a folder whose folders are the classes."""
    for entry in _entries(tree, folder):
        if not _is_hidden(entry.name) and not _is(entry, "dir"):
            tree.leave_out(f"{_kind(entry)} beside the class folders", _join(folder, entry.name))
    classes: dict[str, list[File]] = {}
    for name, identity in sorted(names.items()):
        files = list(_files(tree, _join(folder, name), above | {identity}))
        if files:
            # An accented letter is one character or letter plus accent (as on macOS): NFC makes them equal.
            classes.setdefault(unicodedata.normalize("NFC", decoded(name)), []).extend(files)
        else:
            tree.leave_out("class folder without a picture", _join(folder, name))
    return classes


def _folders(tree: Tree, folder: str, above: _Ancestors) -> Iterator[tuple[str, _Identity]]:
    """(name, identity) of the folders that are not left out; `above`: `folder` and its parents."""
    for entry in _entries(tree, folder):
        path = _join(folder, entry.name)
        if not _is(entry, "dir"):
            continue
        try:
            identity = _identity(entry.stat())
        except OSError:
            tree.leave_out(_VANISHED, path)
            continue
        if _is_hidden(entry.name):
            tree.leave_out("hidden or system folder", path)
        elif identity in above:
            tree.leave_out("link that leads back to a folder above it", path)
        elif any(inside.name in _RUN_FILES for inside in _entries(tree, path)):
            tree.leave_out("folder of a search or a training", path)
        else:
            yield entry.name, identity


def _files(tree: Tree, folder: str, above: _Ancestors) -> Iterator[File]:
    """The pictures of a folder and its subfolders, in order; `above`: `folder` and its parents."""
    known = extensions()
    for entry in _entries(tree, folder):
        path = _join(folder, entry.name)
        ending = Path(entry.name).suffix.lower()
        if _is(entry, "dir"):
            continue
        if _is_hidden(entry.name):
            tree.leave_out("hidden or system file", path)
        elif not _is(entry, "file"):
            tree.leave_out(_kind(entry), path)
        elif ending not in known:
            tree.leave_out(f"ending {shown(ending)}, which is not read" if ending else "no ending", path)
        else:
            try:
                status = entry.stat()
            except OSError:
                tree.leave_out(_VANISHED, path)
                continue
            yield File(path, status.st_size, status.st_mtime_ns)
    for name, identity in _folders(tree, folder, above):
        yield from _files(tree, _join(folder, name), above | {identity})


def _entries(tree: Tree, folder: str) -> list[os.DirEntry[str]]:
    """A folder's entries, sorted by name."""
    try:
        with os.scandir(tree.root / folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        if not folder:
            raise DataError(f"imagefolder: {shown(tree.root)} cannot be listed ({error.strerror})") from error
        tree.leave_out(f"folder that cannot be listed ({error.strerror})", folder)
        return []


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _SYSTEM


def _is(entry: os.DirEntry[str], kind: Literal["dir", "file"]) -> bool:
    try:
        return entry.is_dir() if kind == "dir" else entry.is_file()
    except OSError:  # a link to itself
        return False


def _kind(entry: os.DirEntry[str]) -> str:
    """What an entry is that is no folder."""
    try:
        mode = entry.stat().st_mode
    except FileNotFoundError:
        return "broken link"
    except OSError as error:
        return "link to itself" if error.errno == errno.ELOOP else f"link that cannot be followed ({error.strerror})"
    return next((name for of, name in _KINDS if of(mode)), "file")


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
