"""Checkpoints on disk: whole or absent, and of one training only."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

FORMAT = 2


class CheckpointError(ValueError):
    """A file is no checkpoint, or one of another training."""


def save(path: Path, identity: Mapping[str, object], state: Mapping[str, object]) -> None:
    """Writes a training's identity and state.

    `path` is at every moment absent, the old file or the new one, even if power fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            torch.save({"training": {"format": FORMAT, **identity}, **state}, file)
            file.flush()
            os.fsync(file.fileno())
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
        CheckpointError: the file is damaged, or of a training with another identity.
        FileNotFoundError: there is no such file.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        kept = dict(state["training"])
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises a dozen kinds, from zip, unpickling and its own
        raise CheckpointError(f"{path}: not a readable checkpoint; remove it to train from the start") from error
    if kept.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: a checkpoint of format {kept.get('format')}, and this version reads format {FORMAT}; "
            "remove it to train from the start"
        )
    for key, own in identity.items():
        if kept.get(key) != own:
            raise CheckpointError(
                f"{path}: of a training with {key} {kept.get(key)}, and this one has {own}; "
                "use the same settings or remove the file to train from the start"
            )
    return state
