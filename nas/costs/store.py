"""Figures kept on disk, so that nothing is worked out or measured twice, in this run or the next.

One JSON object a line, only ever appended: any number of processes may read and write the file at once, and a line that
a crash tore is passed over.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Store:
    """A dictionary of JSON-able records by string, of which a later one replaces an earlier one.

    Args:
        path: the file, made when first written to; None keeps the records in memory alone.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._records: dict[str, dict[str, Any]] = {}
        self._read = 0

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The record of ``key``, also if another process has just written it."""
        if key not in self._records:
            self._catch_up()
        return self._records.get(key)

    def put(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep ``record`` under ``key``."""
        self._records[key] = dict(record)
        if self._path is None:
            return
        line = json.dumps({"key": key, **record}, separators=(",", ":")).encode() + b"\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            file.write(line)  # one write in append mode: lines of several processes do not mix

    def _catch_up(self) -> None:
        """Read what was appended since the last time, up to the last whole line."""
        if self._path is None or not self._path.exists() or self._path.stat().st_size == self._read:
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new.rfind(b"\n") + 1
        self._read += whole
        for line in new[:whole].splitlines():
            try:
                record = json.loads(line)
                key = str(record.pop("key"))
            except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
                continue  # torn
            self._records[key] = record
