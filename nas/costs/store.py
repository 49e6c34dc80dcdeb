"""Stores estimates on disk, so that no run computes or measures a figure twice.

The file has one JSON object per line and is only appended to: any number of processes may read and write it at once.
Each line ends with a checksum of the rest. A line with a wrong checksum, or without an estimate, is skipped with a
warning, and its figure is computed again. Older files without checksums can be read.
"""

import json
import math
import os
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from nas.costs.estimate import CostEstimate, Source
from nas.costs.measures import UNITS
from search_spaces.errors import named

_CHECKSUM = "crc32"


class DamagedCosts(UserWarning):
    """A file of costs has lines that are damaged or from another program."""


class Store:
    """Estimates by key; a later estimate replaces an earlier one.

    Args:
        path: the file, created at the first write; None keeps the estimates only in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._estimates: dict[str, CostEstimate] = {}
        self._read = 0
        self._warned = False

    def get(self, key: str) -> CostEstimate | None:
        """The estimate of ``key``, also if another process has just written it.

        Warns:
            DamagedCosts: once, if the file has damaged lines.
        """
        if key not in self._estimates:
            self._catch_up()
        return self._estimates.get(key)

    def put(self, key: str, estimate: CostEstimate) -> None:
        """Stores ``estimate`` under ``key``."""
        self._estimates[key] = estimate
        if self._path is None:
            return
        record = {"key": key, **asdict(estimate)}
        line = _encoded({**record, _CHECKSUM: _checksum(record)}) + b"\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            file.write(line)  # one write in append mode: lines of several processes do not mix

    def _catch_up(self) -> None:
        """Reads the lines appended since the last call, up to the last complete one."""
        if self._path is None or not self._path.exists() or self._path.stat().st_size == self._read:
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new.rfind(b"\n") + 1
        self._read += whole
        lines = new[:whole].splitlines()
        found = [pair for line in lines if (pair := _decoded(line)) is not None]
        self._estimates.update(found)
        damaged = sum(map(bool, lines)) - len(found)
        if damaged and not self._warned:
            self._warned = True
            warnings.warn(
                f"{named(self._path)}: {damaged} of {len(lines)} lines are damaged or not of this program; their "
                "figures are computed again",
                DamagedCosts,
                stacklevel=4,
            )


def _encoded(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


def _checksum(record: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(_encoded(record)):08x}"


def _decoded(line: bytes) -> tuple[str, CostEstimate] | None:
    """A line's key and estimate; None if the line is damaged."""
    try:
        record = json.loads(line)
        if _CHECKSUM in record and record.pop(_CHECKSUM) != _checksum(record):
            return None
        if set(record) != {"key", *_FIELDS}:
            return None
        key, value, lower, upper, unit, source = (record[name] for name in ("key", *_FIELDS))
        value, lower, upper = float(value), float(lower), float(upper)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError, OverflowError):
        return None
    known = isinstance(key, str) and unit in UNITS and source in get_args(Source)
    if not known or not 0 <= lower <= value <= upper < math.inf:
        return None
    return key, CostEstimate(value, lower, upper, unit, source)


_FIELDS = ("value", "lower", "upper", "unit", "source")
