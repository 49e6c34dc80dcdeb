"""Decides whether a job failed because of its network or because of its machine.

A network that fails would fail on any machine: its trial ends. A machine that fails (a full disk, data that is not
mounted, no memory left) would fail any network: the job is continued elsewhere or later, and the trial is not lost.
"""

import errno
import traceback
from collections.abc import Iterator, Mapping
from typing import Final

from nas.search import Outcome, OutcomeKind
from trainers import DataError, Diverged, OutOfMemory

KINDS: Final[Mapping[type[BaseException], OutcomeKind]] = {
    Diverged: "failed",
    OutOfMemory: "out_of_memory",
    # The files were read when the search began. Now they are gone or unreadable.
    DataError: "machine",
    OSError: "machine",
    MemoryError: "machine",
}
"""Exception -> outcome; the first match counts. Any other exception is the network's fault."""

_MACHINE_SAYS = (
    "No space left on device",
    "PytorchStreamWriter failed",  # torch.save on a full disk
    "inline_container.cc",  # likewise
    "DataLoader worker",  # killed or exited
    "unable to mmap",
    "Cannot allocate memory",
)
"""Messages of machine faults that raise no exception class of their own."""

_MACHINE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.ENOMEM, errno.ENXIO}
"""An OSError with one of these codes is a machine fault, even if another error was raised from it."""


def outcome_of(error: BaseException) -> Outcome:
    """The outcome of a job that raised `error`."""
    kind = _kind(error)
    if isinstance(error, OutOfMemory) and error.peak_bytes is None:
        kind = "machine"  # host memory, which other processes use too; for a device the allocator reports a peak
    if isinstance(error, Diverged | OutOfMemory):
        return Outcome(kind, str(error), peak_bytes=getattr(error, "peak_bytes", None))
    # An error that replaced the one of a full disk does not mention the disk.
    first = next(filter(_of_machine, _causes(error)), error)
    return Outcome(kind, f"{type(first).__name__}: {first}", "".join(traceback.format_exception(error)))


def _of_machine(cause: BaseException) -> bool:
    return isinstance(cause, OSError) and cause.errno in _MACHINE_ERRNOS


def _kind(error: BaseException) -> OutcomeKind:
    for known, kind in KINDS.items():
        if isinstance(error, known):
            return kind
    if any(map(_of_machine, _causes(error))):
        return "machine"
    return "machine" if any(sign in str(error) for sign in _MACHINE_SAYS) else "failed"


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__ or error.__context__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
