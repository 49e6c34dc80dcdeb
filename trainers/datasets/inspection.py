"""Inspects a folder of pictures before anything starts: its pictures, the files left out, the unreadable files.

It reads the header and the end of every file, and decodes only files whose end does not fit their format. Damage in the
middle of a file appears only in training. For a thousand files or more the results are cached in the user's cache, by
name, size and time of change.
"""

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import blake2b
from math import ceil
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from search_spaces.files import at_home
from trainers.datasets.base import DataError, Labels, shown
from trainers.datasets.pictures import Look, Unreadable, look
from trainers.datasets.table import Layout
from trainers.datasets.tree import NO_LABEL, File, Tree, read_tree

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (files inspected, all files)."""

MAX_UNREADABLE = 0.01
_KEPT_FROM = 1000
"""Least number of files for which the results are cached."""
_EXAMPLES = 3
_Found: TypeAlias = Look | str
"""A file's picture, or why it cannot be read."""


@dataclass(frozen=True, slots=True)
class Part:
    """The readable pictures of a split's folder, or of a folder without splits."""

    folder: Path
    paths: npt.NDArray[np.bytes_]
    """[N], relative to `folder`."""
    labels: Labels
    """[N], positions in `Inspection.classes`."""
    content: npt.NDArray[np.int64]
    """[N], equal numbers for equal content, over all parts."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a folder of pictures holds."""

    root: Path
    classes: tuple[str, ...]
    parts: Mapping[str, Part]
    """``train``, and ``val`` and ``test`` where they have folders with labels of their own."""
    left_out: Mapping[str, tuple[str, ...]]
    """Reason -> files and folders that are left out, relative to the root."""
    unreadable: Mapping[str, str]
    """File, relative to the root -> why it cannot be read."""
    may_lack: int
    """How many more files may be unreadable."""
    sizes: tuple[tuple[int, int], ...]
    """(width, height) of the smallest, the middle and the largest picture, by area."""
    modes: Mapping[str, int]
    """Pillow's name of the pixels' kind -> pictures."""
    transparent: int
    """Number of pictures with transparent parts, which become white."""

    def counts(self) -> dict[str, list[int]]:
        """Part -> pictures of each class."""
        return {name: _bincount(part.labels, self.classes) for name, part in self.parts.items()}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know before a search, one line each."""
        return tuple(_warnings(self))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; pictures as counts."""
        return {
            "root": shown(self.root),
            "classes": list(self.classes),
            "folders": {name: shown(part.folder) for name, part in self.parts.items()},
            "counts": self.counts(),
            "left_out": {reason: [shown(path) for path in paths] for reason, paths in self.left_out.items()},
            "unreadable": {shown(path): why for path, why in self.unreadable.items()},
            "sizes": dict(zip(("smallest", "middle", "largest"), self.sizes, strict=True)),
            "modes": dict(self.modes),
            "transparent": self.transparent,
            "warnings": list(self.warnings),
        }


def inspect_folder(
    root: Path,
    *,
    layout: Layout = "auto",
    max_unreadable: float = MAX_UNREADABLE,
    progress: Progress | None = None,
) -> Inspection:
    """Inspects every picture below `root` once.

    Args:
        root: a folder with one folder per class, or with one folder per split that holds class folders.
        layout: which of the two; ``auto`` decides by the folders' names.
        max_unreadable: share of the files, in [0, 1], that may be unreadable; they are left out.
        progress: called with the progress.

    Raises:
        DataError: the folder is unsuitable, or more than `max_unreadable` of the files cannot be read.
    """
    tree = read_tree(root, layout)
    classes = tuple(sorted(tree.splits["train"]))
    if len(classes) < 2:
        raise DataError(_too_few(tree, classes))
    _drop_unknown(tree, classes)
    files = [file for split in tree.splits.values() for members in split.values() for file in members]
    found = _look_at_all(root, files, progress)
    unreadable = {path: why for path, why in found.items() if isinstance(why, str)}
    allowed = ceil(max_unreadable * len(files))
    if len(unreadable) > allowed:
        raise DataError(
            f"imagefolder: {len(unreadable)} of {len(files)} pictures in {shown(root)} cannot be read, "
            f"{_examples(f'{path} ({why})' for path, why in unreadable.items())}.\n"
            f"Repair or remove them, or raise data.max_unreadable (now {max_unreadable:g})"
        )
    looks = {path: seen for path, seen in found.items() if isinstance(seen, Look)}
    content = _contents(root, files, looks)
    emptied = [name for name in classes if all(file.path not in looks for file in tree.splits["train"][name])]
    if emptied:
        raise DataError(
            f"imagefolder: not one picture of class {shown(emptied[0])} can be read: "
            f"{unreadable[tree.splits['train'][emptied[0]][0].path]}; repair them or remove the folder"
        )
    by_area = sorted((seen.width * seen.height, seen.width, seen.height) for seen in looks.values())
    return Inspection(
        root=root,
        classes=classes,
        parts={name: _part(tree, name, classes, content) for name in tree.splits},
        left_out={reason: tuple(paths) for reason, paths in tree.left_out.items()},
        unreadable=unreadable,
        may_lack=allowed - len(unreadable),
        sizes=tuple(by_area[at][1:] for at in (0, len(by_area) // 2, -1)),
        modes=dict(Counter(seen.mode for seen in looks.values()).most_common()),
        transparent=sum(seen.transparent for seen in looks.values()),
    )


def _too_few(tree: Tree, classes: Sequence[str]) -> str:
    folder = shown(tree.root / tree.folders["train"])
    passed = "; ".join(f"left out: {_examples(paths)} ({reason})" for reason, paths in tree.left_out.items())
    return (
        f"imagefolder: {folder} has {len(classes)} class folders with pictures and needs at least 2"
        f"{f' ({passed})' if passed else ''}.\n"
        "data.root is the folder that holds one folder per class, or train/ and val/ or test/ with those"
    )


def _drop_unknown(tree: Tree, classes: Sequence[str]) -> None:
    """Raises a DataError for a class that is not in the training data. A test set with only such classes is dropped."""
    for split in ("val", "test"):
        members = tree.splits.get(split)
        unknown = sorted(set(members or ()) - set(classes))
        if members is None or not unknown:
            continue
        if split == "test" and len(unknown) == len(members):
            for files in members.values():
                for file in files:
                    tree.leave_out(NO_LABEL, file.path)
            del tree.splits[split], tree.folders[split]
            continue
        folder = shown(tree.root / tree.folders[split] / unknown[0])
        near = [name for name in classes if name.casefold() == unknown[0].casefold()]
        raise DataError(
            f"imagefolder: {folder} is no class of the training data"
            f"{f', which has {shown(near[0])}' if near else ''}; remove it or add it there"
        )


def _part(tree: Tree, split: str, classes: Sequence[str], content: Mapping[str, int]) -> Part:
    folder = tree.root / tree.folders[split]
    start = 0 if tree.folders[split] == "." else len(tree.folders[split]) + 1
    kept = [
        (os.fsencode(file.path[start:]), label, content[file.path])
        for label, name in enumerate(classes)
        for file in tree.splits[split].get(name, ())
        if file.path in content
    ]
    return Part(
        folder.absolute(),
        np.array([path for path, _, _ in kept], dtype=np.bytes_),
        np.array([label for _, label, _ in kept], dtype=np.int64),
        np.array([number for _, _, number in kept], dtype=np.int64),
    )


# --- looking at files -------------------------------------------------------------------------------------------------


def _look_at_all(root: Path, files: Sequence[File], progress: Progress | None) -> dict[str, _Found]:
    """Path -> what the file holds; unchanged files come from the cache."""
    Image.init()  # not from several threads at once
    cache = _cache_of(root) if len(files) >= _KEPT_FROM else None
    known = _read_cache(cache)
    found: dict[str, _Found] = {}
    with ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool:  # most of the time they wait for the disk

        def seen(file: File) -> _Found:
            kept = known.get(file.path)
            if kept is not None and kept[0] == [file.size, file.mtime_ns]:
                return kept[1]
            try:
                return look(root / file.path)
            except Unreadable as error:
                return str(error)

        for done, (file, result) in enumerate(zip(files, pool.map(seen, files), strict=True), 1):
            found[file.path] = result
            if progress is not None and (done % 100 == 0 or done == len(files)):
                progress(done, len(files))
    if cache is not None:
        _write_cache(cache, files, found)
    return found


def _contents(root: Path, files: Sequence[File], looks: Mapping[str, Look]) -> dict[str, int]:
    """Path -> a number for its content. Only files of one size and ending are read whole."""
    sizes = {file.path: file.size for file in files}
    alike = Counter((sizes[path], seen.ending) for path, seen in looks.items())
    suspects = [path for path, seen in looks.items() if alike[sizes[path], seen.ending] > 1]

    def digest(path: str) -> bytes:
        try:
            return blake2b((root / path).read_bytes(), digest_size=16).digest()
        except OSError:
            return os.fsencode(path)  # removed meanwhile: equal to no other file

    with ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool:
        whole = dict(zip(suspects, pool.map(digest, suspects), strict=True))
    numbers: dict[object, int] = {}
    return {path: numbers.setdefault(whole.get(path, path), len(numbers)) for path in looks}


def _cache_of(root: Path) -> Path | None:
    """The cache file. It is not in the folder itself, which may be read-only and is not ours. None without a home."""
    home = at_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    if not home.is_absolute():
        return None
    name = blake2b(os.fsencode(root.resolve()), digest_size=8).hexdigest()
    return home / "attention-nas" / f"pictures-{name}.json.gz"


def _read_cache(path: Path | None) -> dict[str, tuple[list[int], _Found]]:
    """Path -> ([size, time of change], result); empty if the cache is unreadable or from another Pillow version."""
    try:
        if path is None:
            return {}
        with gzip.open(path, "rt", encoding="utf-8") as file:
            kept = json.load(file)
        if kept["reader"] != _reader():
            return {}
        return {
            name: ([size, time], found if isinstance(found, str) else Look(**found))
            for name, (size, time, found) in kept["files"].items()
        }
    except Exception:  # a damaged cache counts as none
        return {}


def _write_cache(path: Path, files: Sequence[File], found: Mapping[str, _Found]) -> None:
    kept = {
        file.path: (file.size, file.mtime_ns, seen if isinstance(seen := found[file.path], str) else asdict(seen))
        for file in files
    }
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(temporary, "wt", encoding="utf-8", compresslevel=1) as file_out:
            json.dump({"reader": _reader(), "files": kept}, file_out)
        temporary.replace(path)
    except OSError:  # the cache is optional
        return


def _reader() -> str:
    return f"3, Pillow {PIL.__version__}"


# --- warnings ---------------------------------------------------------------------------------------------------------


def _warnings(inspection: Inspection) -> Iterable[str]:
    """A line each."""
    for reason, paths in inspection.left_out.items():
        if not reason.startswith("hidden"):
            yield f"left out: {_examples(paths)} ({reason})"
    if inspection.unreadable:
        files = _examples(f"{shown(path)} ({why})" for path, why in inspection.unreadable.items())
        yield f"left out, because they cannot be read: {files}"
    if inspection.transparent:
        yield f"{_some(inspection.transparent, 'picture')} with transparent parts: shown over white"
    of_class = [
        f"{shown(name)} ({count})"
        for name, count in zip(inspection.classes, inspection.counts()["train"], strict=True)
        if count < 3
    ]
    if of_class and len(inspection.parts) < 3:
        yield f"classes with too few pictures for train, validation and test: {_examples(of_class)}"
    train = inspection.parts["train"]
    labels: dict[int, int] = {}
    both = {
        number
        for number, label in zip(train.content.tolist(), train.labels.tolist(), strict=True)
        if labels.setdefault(number, label) != label
    }
    if both:
        yield f"{_some(len(both), 'picture')} of the training data in two classes at once, with the same content"
    for name, part in inspection.parts.items():
        if name == "train":
            continue
        shared = int(np.isin(part.content, train.content).sum())
        if shared:
            yield (
                f"{shared} of the {len(part.labels)} pictures in {shown(part.folder)} are in the training data too, "
                "with the same content, so metrics on them are too good"
            )
        yield from lacking(shown(part.folder), part.labels, inspection.classes)


def lacking(where: str, labels: Labels, classes: Sequence[str]) -> Iterable[str]:
    """Names the classes without a picture in a split."""
    counts = _bincount(labels, classes)
    absent = [shown(name) for name, count in zip(classes, counts, strict=True) if not count]
    if len(absent) == len(classes) - 1 and len(labels):
        only = next(name for name, count in zip(classes, counts, strict=True) if count)
        yield f"{where} has only class {shown(only)}, so a constant answer is always right"
    elif absent and len(labels):
        yield f"{where} has no picture of {_examples(absent)}"


def _bincount(labels: Labels, classes: Sequence[str]) -> list[int]:
    return [int(count) for count in np.bincount(labels, minlength=len(classes))]


def _some(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _examples(items: Iterable[str]) -> str:
    """The first few items, and the number of others."""
    found = [shown(item) for item in items]
    more = len(found) - _EXAMPLES
    return ", ".join(found[:_EXAMPLES]) + (f" and {more} more" if more > 0 else "")
