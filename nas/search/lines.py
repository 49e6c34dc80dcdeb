"""The lines of a journal file: their seals, and how damage is distinguished from an incomplete last line.

Every line that this program writes ends with a seal, ``"seal":"<8 hex digits>"}``: the CRC-32 of all bytes of the file
before the seal, including those of the line. So a line that was changed, dropped, doubled or moved breaks its own seal
or the next one. Optuna and its dashboard ignore the field. Lines of other programs (a note from a dashboard) have no
seal; the next sealed line covers them. The same holds for journals of older versions, until a driver resumes them.
Seals detect accidents, not manipulation: anyone can compute them.
"""

import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from search_spaces import UserFacingError
from search_spaces.errors import named, printable

OURS = ""
"""The worker id in lines of this program; Optuna's own lines have a name there."""

_SEAL = re.compile(rb',"seal":"([0-9a-f]{8})"\}\n\Z')
_SEAL_BYTES = len(b',"seal":"00000000"}\n')
_HOLE = b"\0" * 8
"""A power failure can leave zeros in place of bytes that were not yet on the disk."""
_COMPARED = 64
_BUFFER = 1 << 17


class JournalError(UserFacingError, RuntimeError):
    """A run that cannot be opened or written, in one or two lines that a user can act on."""


def damaged(path: Path, place: str, what: str) -> JournalError:
    """The error for a damaged journal."""
    what = printable(what)
    return JournalError(
        f"{named(path)} is damaged, or this program did not write it: {printable(place)}: "
        f"{what[:240]}{'...' if len(what) > 240 else ''}; restore the file from a copy"
    )


def sealed(record: Mapping[str, Any], before: int) -> bytes:
    """A line with its seal; `before` is the CRC-32 of all bytes before the line."""
    body = json.dumps(record, separators=(",", ":")).encode()[:-1]
    return b'%b,"seal":"%08x"}\n' % (body, zlib.crc32(body, before))


def unsealed(line: bytes, before: int) -> Any:  # noqa: ANN401  # any JSON value
    """The record of a line from `sealed` with the same `before`; None if its seal is missing or another."""
    return _decoded(line) if _seal_of(line) == zlib.crc32(line[:-_SEAL_BYTES], before) else None


class Lines:
    """The complete lines of a file as JSON objects, each once and in order; others may append meanwhile.

    Attributes are read-only. ``offset``: bytes delivered; ``crc``: their CRC-32; ``number``: lines delivered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.crc = 0
        self.number = 0
        self._sealed = False
        self._identity: tuple[int, int] | None = None
        self._last = b""

    def new(self) -> Iterator[dict[str, Any]]:
        """The lines added since the last call, without an incomplete last line.

        Raises:
            JournalError: A line is damaged, or the file was cut or replaced since the last call.
        """
        found = self.path.stat()
        if found.st_size == self.offset and (found.st_dev, found.st_ino) == self._identity:
            return
        with BufferedReader(FileIO(self.path), _BUFFER) as file:
            self.check(file.fileno())
            file.seek(self.offset)
            for line in file:
                record = self._record(line, file)
                if record is None:
                    return
                self.pass_by(line)
                yield record

    def check(self, fd: int) -> None:
        """Raises a JournalError unless the open file still begins with the bytes that were delivered."""
        found = os.fstat(fd)
        identity = (found.st_dev, found.st_ino)
        if self._identity is None:
            self._identity = identity
        changed = "replaced by another" if identity != self._identity else ""
        if not changed and found.st_size < self.offset:
            changed = f"cut: it has {found.st_size} bytes, and had {self.offset}"
        if not changed and os.pread(fd, len(self._last), self.offset - len(self._last)) != self._last:
            changed = "changed"
        if changed:
            raise JournalError(
                f"{named(self.path)} was {changed} while it was in use; nothing was added to it: put the "
                "file back and resume the run"
            )

    def pass_by(self, line: bytes) -> None:
        """Counts a line as delivered."""
        self.crc = zlib.crc32(line, self.crc)
        self.offset += len(line)
        self.number += 1
        self._last = (self._last + line[-_COMPARED:])[-_COMPARED:]
        self._sealed = self._sealed or _seal_of(line) is not None

    def _record(self, line: bytes, file: "BufferedReader[FileIO]") -> dict[str, Any] | None:
        """The line as JSON; None if it is the incomplete end of the file."""
        if not line.endswith(b"\n"):
            if self._holds(line[:-1] + b"\n"):
                raise self._damaged("its line break was changed")
            return None
        try:
            record = _decoded(line)
        except (ValueError, RecursionError):
            if (_HOLE in line or not line.strip(b"\0\n")) and not file.peek(1):
                return None
            raise self._damaged("it is not JSON") from None
        if not isinstance(record, dict):
            raise self._damaged("it is not a JSON object")
        if not self._holds(line):
            if line.endswith(b"\r\n"):
                raise self._damaged("its line break is Windows' (CR LF), so a program converted the file")
            if _seal_of(line) is not None:
                raise self._damaged("its seal is broken: this line or an earlier one was changed, dropped or moved")
            if "seal" in record or (self._sealed and record.get("worker_id") == OURS):
                raise self._damaged("it has no seal, but the lines before it have one")
        return record

    def _holds(self, line: bytes) -> bool:
        """Whether the line has a valid seal."""
        seal = _seal_of(line)
        return seal is not None and seal == zlib.crc32(memoryview(line)[:-_SEAL_BYTES], self.crc)

    def _damaged(self, what: str) -> JournalError:
        return damaged(self.path, f"line {self.number + 1}, at byte {self.offset}", what)


def _seal_of(line: bytes) -> int | None:
    """The checksum in the line's seal; None if it has no seal."""
    found = _SEAL.match(line[-_SEAL_BYTES:])
    return None if found is None else int(found[1], 16)


def _decoded(line: bytes) -> Any:  # noqa: ANN401  # any JSON value
    """The JSON of a line.

    Raises:
        ValueError, RecursionError: The line is not JSON.
    """
    try:
        return from_json(line)
    except ValueError:
        # Twice as slow, but also reads file names that are not Unicode, and deeply nested lists.
        return json.loads(line)
