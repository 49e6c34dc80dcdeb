"""Tests how errors of a job are classified; some are raised by the real code that raises them."""

import errno
import pickle
from pathlib import Path

import pytest
import torch

from launch.ray.faults import outcome_of
from trainers import DataError, Diverged, OutOfMemory


def raised_on_a_full_disk() -> Exception:
    """The error that `torch.save` raises on a full disk."""
    with pytest.raises((OSError, RuntimeError)) as caught, Path("/dev/full").open("wb") as full:
        torch.save({"weights": torch.zeros(1 << 16)}, full)
    return caught.value


def in_place_of(cause: OSError) -> Exception:
    try:
        try:
            raise cause
        finally:
            raise RuntimeError("the archive cannot be closed")
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Diverged(2, 0.1), "failed"),
        (ValueError("skeleton.num_classes is 10, and the data has 6"), "failed"),
        (RuntimeError("shapes cannot be multiplied"), "failed"),
        (OutOfMemory("CUDA out of memory", 2**30), "out_of_memory"),
        (OutOfMemory("DefaultCPUAllocator: can't allocate memory"), "machine"),
        (MemoryError(), "machine"),
        (OSError(errno.ENOSPC, "No space left on device", "/runs/a/epoch-0001.pt"), "machine"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/a.png"), "machine"),
        (PermissionError(errno.EACCES, "Permission denied", "/runs/a"), "machine"),
        (DataError("imagefolder: /data/a.png cannot be read"), "machine"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "machine"),
        (in_place_of(OSError(errno.ENOSPC, "No space left on device")), "machine"),
        (in_place_of(FileNotFoundError(errno.ENOENT, "no such plug-in")), "failed"),
    ],
)
def test_errors_are_classified(error: Exception, kind: str) -> None:
    outcome = outcome_of(error)
    assert outcome.kind == kind
    assert str(error.__context__ or error if kind == "machine" else error) in outcome.reason


def test_a_full_disk_is_the_machines_fault() -> None:
    error = raised_on_a_full_disk()
    assert outcome_of(error).kind == "machine", repr(error)
    assert "No space left on device" in outcome_of(error).reason
    assert outcome_of(pickle.loads(pickle.dumps(error))).kind == "machine"  # as another process of the trial reports it
