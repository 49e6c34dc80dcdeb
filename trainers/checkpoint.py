"""Checkpoints on disk: whole or absent, of one training only, and never taken up with a byte changed.

A file is what `torch.save` writes, a zip archive, whose comment is the SHA-256 of all bytes before it. `torch.load`
reads it as it is, but checks nothing.
"""

import hashlib
import logging
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from search_spaces import UserFacingError

FORMAT = 2
_MARK = b"sha256:"
_DIGEST_SIZE = 32
_COMMENT_SIZE = len(_MARK) + _DIGEST_SIZE
_OF_COMMENT = struct.Struct("<H")
"""A zip archive ends with its comment's length and its comment."""

_log = logging.getLogger(__name__)


class CheckpointError(UserFacingError, ValueError):
    """A file is no checkpoint, or one of another training."""


class DamagedError(CheckpointError):
    """A file is no whole checkpoint: it is cut, or bytes of it have changed."""


def save(
    path: Path, identity: Mapping[str, object], state: Mapping[str, object], *, before: Path | None = None
) -> None:
    """Writes a training's identity and state.

    `path` is at every moment absent, the old file or the new one, even if power fails.

    Args:
        path: the file.
        identity: what must be equal for a training to go on; plain values.
        state: tensors and plain values.
        before: where the file that `path` was so far is kept; there is always one of the two.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w+b") as file:
            torch.save({"training": {"format": FORMAT, **identity}, **state}, file)
            _seal(file)
            file.flush()
            os.fsync(file.fileno())
        if before is not None and path.exists():
            path.replace(before)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def restore(path: Path, identity: Mapping[str, object], device: torch.device) -> dict[str, Any]:
    """The state that `save` wrote, on `device`. Nothing in the file is executed.

    Raises:
        DamagedError: the file is none that `save` wrote, or a byte of it has changed.
        CheckpointError: it is of another format, or of a training with another identity.
        FileNotFoundError: there is no such file.
    """
    with path.open("rb") as file:
        if not _is_whole(file):
            raise DamagedError(f"{path}: not a whole checkpoint of this version; remove it to train from the start")
        try:
            state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
            kept = dict(state["training"])
        except Exception as error:  # torch raises a dozen kinds, from zip, unpickling and its own
            raise DamagedError(f"{path}: not a readable checkpoint; remove it to train from the start") from error
    if kept.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: a checkpoint of format {kept.get('format')}, and this version reads format {FORMAT}; "
            "remove it to train from the start"
        )
    for key, own in identity.items():
        if kept.get(key) != own:
            theirs, ours = _first_difference(kept.get(key), own)
            raise CheckpointError(
                f"{path}: of a training with {key} {theirs}, and this one has {ours}; "
                "use the same settings or remove the file to train from the start"
            )
    return state


def restore_newest(paths: Iterable[Path], restore: Callable[[Path], None]) -> Path | None:
    """Restores from the first file that is there and whole, and warns of each damaged one before it.

    Args:
        paths: the newest first.
        restore: takes a training up from a file; raises as `restore` of this module.

    Returns:
        The file, or None where there is none: the training begins at the start.

    Raises:
        CheckpointError: a whole file is another training's.
    """
    damaged: list[Path] = []
    taken = None
    for path in paths:
        try:
            restore(path)
        except FileNotFoundError:
            continue
        except DamagedError:
            damaged.append(path)
        else:
            taken = path
            break
    for path in damaged:
        _log.warning("%s: damaged; training goes on from %s", path, taken or "the start")
    return taken


def _seal(file: IO[bytes]) -> None:
    """Turns the archive's empty comment into the checksum of all before it."""
    end = file.seek(0, os.SEEK_END)
    file.seek(end - _OF_COMMENT.size)
    assert file.read() == _OF_COMMENT.pack(0), "torch.save writes a zip archive without a comment"
    file.seek(end - _OF_COMMENT.size)
    file.write(_OF_COMMENT.pack(_COMMENT_SIZE) + _MARK)
    file.write(_digest(file, end + len(_MARK)))


def _is_whole(file: IO[bytes]) -> bool:
    end = file.seek(0, os.SEEK_END) - _DIGEST_SIZE
    if end < len(_MARK):
        return False
    digest = _digest(file, end)
    whole = file.read() == digest
    file.seek(0)
    return whole


def _digest(file: IO[bytes], size: int) -> bytes:
    """SHA-256 of the first `size` bytes, at whose end the file then stands."""
    file.seek(0)
    found = hashlib.sha256()
    while size and (chunk := file.read(min(size, 1 << 20))):
        found.update(chunk)
        size -= len(chunk)
    return found.digest()


def _first_difference(kept: object, own: object) -> tuple[object, object]:
    """Two values that differ; of long ones, such as the names of classes, the first items that do."""
    if not (isinstance(kept, tuple) and isinstance(own, tuple) and len(kept) == len(own)):
        return kept, own
    at = next(index for index, (a, b) in enumerate(zip(kept, own, strict=True)) if a != b)
    return f"({at}: {kept[at]})", f"({at}: {own[at]})"
