"""Checkpoints on disk. A file is complete or absent, belongs to one training, and is refused if a byte has changed.

A file is the zip archive of `torch.save`; the archive's comment is the SHA-256 of all bytes before it. `torch.load`
reads the file unchanged, but does not check the comment.
"""

import hashlib
import logging
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import torch

from search_spaces import UserFacingError
from search_spaces.errors import named

FORMAT = 4
_READ: Mapping[int, Mapping[str, object]] = MappingProxyType(
    {2: {"ema_epochs": 0.0, "start": "papers"}, 3: {"start": "papers"}, FORMAT: {}}
)
"""The formats that can be read, and what the identities in them leave unsaid. In format 2 there were no averages, and
before format 4 every training started as in the papers."""

_MARK = b"sha256:"
_DIGEST_SIZE = 32
_COMMENT_SIZE = len(_MARK) + _DIGEST_SIZE
_OF_COMMENT = struct.Struct("<H")
"""A zip archive ends with its comment's length and its comment."""

_log = logging.getLogger(__name__)


class CheckpointError(UserFacingError, ValueError):
    """A file is no checkpoint, or a checkpoint of another training."""


class DamagedError(CheckpointError):
    """A checkpoint is incomplete or has changed bytes."""


def save(
    path: Path, identity: Mapping[str, object], state: Mapping[str, object], *, before: Path | None = None
) -> None:
    """Writes a training's identity and state.

    At every moment `path` is absent, the old file or the new file, even after a power failure.

    Args:
        path: the file.
        identity: the values that must be equal in the training that continues; plain values.
        state: tensors and plain values.
        before: where the previous file is kept. At least one of the two files always exists.
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


_AGAIN = "remove it to train from the start"


def restore(
    path: Path, identity: Mapping[str, object], device: torch.device, *, remedy: str = _AGAIN
) -> dict[str, Any]:
    """The state that `save` wrote, on `device`. Nothing in the file is executed.

    ``remedy`` is what a user can do about a file that cannot be read.

    Raises:
        DamagedError: the file was not written by `save`, or a byte of it has changed.
        CheckpointError: the file has another format, or belongs to a training with another identity.
        FileNotFoundError: there is no such file.
    """
    with path.open("rb") as file:
        if not _is_whole(file):
            raise DamagedError(f"{named(path)}: not a whole checkpoint of this version; {remedy}")
        try:
            state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
            kept = dict(state["training"])
        except Exception as error:  # torch raises a dozen types: from zip, from unpickling and its own
            raise DamagedError(f"{named(path)}: not a readable checkpoint; {remedy}") from error
    found = kept.get("format")
    if not (isinstance(found, int) and found in _READ):
        raise CheckpointError(
            f"{named(path)}: a checkpoint of format {found}, but this version reads format {FORMAT}; {remedy}"
        )
    kept = {**_READ[found], **kept}
    for key, own in identity.items():
        if kept.get(key) != own:
            theirs, ours = _first_difference(kept.get(key), own)
            raise CheckpointError(
                f"{named(path)}: from a training with {key} {theirs}, but this one has {ours}; "
                "use the same settings or remove the file to train from the start"
            )
    return state


def restore_newest(paths: Iterable[Path], restore: Callable[[Path], None]) -> Path | None:
    """Restores from the first file that exists and is complete, and warns about each damaged file before it.

    Args:
        paths: the newest first.
        restore: restores a training from a file; raises as `restore` of this module.

    Returns:
        The file, or None if there is none: the training begins at the start.

    Raises:
        CheckpointError: a complete file belongs to another training.
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
        _log.warning("%s: damaged; training continues from %s", path, taken or "the start")
    return taken


def _seal(file: IO[bytes]) -> None:
    """Replaces the archive's empty comment by the checksum of all bytes before it."""
    end = file.seek(0, os.SEEK_END)
    file.seek(end - _OF_COMMENT.size)
    assert file.read() == _OF_COMMENT.pack(0), "torch.save writes a zip archive without a comment"
    file.seek(end - _OF_COMMENT.size)
    file.write(_OF_COMMENT.pack(_COMMENT_SIZE) + _MARK)
    file.write(_digest(file, end + len(_MARK)))


def is_whole(path: Path) -> bool:
    """Whether a checkpoint file has every byte that `save` wrote. Reads the whole file, without torch."""
    with path.open("rb") as file:
        return _is_whole(file)


def _is_whole(file: IO[bytes]) -> bool:
    end = file.seek(0, os.SEEK_END) - _DIGEST_SIZE
    if end < len(_MARK):
        return False
    digest = _digest(file, end)
    whole = file.read() == digest
    file.seek(0)
    return whole


def _digest(file: IO[bytes], size: int) -> bytes:
    """SHA-256 of the first `size` bytes; leaves the file position after them."""
    file.seek(0)
    found = hashlib.sha256()
    while size and (chunk := file.read(min(size, 1 << 20))):
        found.update(chunk)
        size -= len(chunk)
    return found.digest()


def _first_difference(kept: object, own: object) -> tuple[object, object]:
    """Two different values; for tuples of one length, such as class names, the first different items."""
    if not (isinstance(kept, tuple) and isinstance(own, tuple) and len(kept) == len(own)):
        return kept, own
    at = next(index for index, (a, b) in enumerate(zip(kept, own, strict=True)) if a != b)
    return f"({at}: {kept[at]})", f"({at}: {own[at]})"
