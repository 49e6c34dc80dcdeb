"""Two processes, each with a share of every batch, give the same training as one process with whole batches."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn

from search_spaces import Architecture, load_space
from trainers import ALONE, DataConfig, Share, TrainerConfig, Training, load_data


def network(architecture: Architecture) -> nn.Module:
    """A network without batch normalisation, which would see only the share."""
    classes = architecture.skeleton.num_classes
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 8, classes))


def with_norm(architecture: Architecture) -> nn.Module:
    convolution, *rest = network(architecture)
    return nn.Sequential(convolution, nn.BatchNorm2d(4), *rest)


def train(share: Share) -> dict[str, list[list[float]]]:
    """Trains with odd batches, so one process has one image more, and evaluates an odd number of images."""
    torch.set_num_threads(1)
    config = TrainerConfig.model_validate({"epochs": 2, "batch_size": 33, "lr": 0.02})
    data = load_data(DataConfig.model_validate({"name": "shapes", "train_size": 100, "val_size": 67}))
    training = Training(load_space("shapes").plain(), data, config, share=share, build=network)
    results = [training.run_epoch() for _ in range(config.epochs)]
    return {
        "figures": [[*r.train.values(), *r.val.values()] for r in results],
        "weights": [tensor.flatten().tolist() for kind in training.networks.values() for tensor in kind.parameters()],
    }


def train_with_norm(share: Share, folder: Path) -> dict[str, str]:
    """Three epochs, the last of them again from the checkpoint of the second; digests of all figures and weights."""
    config = TrainerConfig.model_validate({"epochs": 3, "batch_size": 33, "lr": 0.02, "ema_epochs": 0.5})
    data = load_data(DataConfig.model_validate({"name": "shapes", "train_size": 100, "val_size": 67}))

    def new() -> Training:
        return Training(load_space("shapes").plain(), data, config, share=share, build=with_norm)

    whole, rest = new(), new()
    whole.run_epoch()
    whole.run_epoch()
    if share.rank == 0:
        whole.save(folder / "checkpoint.pt")
    distributed.barrier()
    rest.restore(folder / "checkpoint.pt")
    found = {}
    for name, training in (("whole", whole), ("rest", rest)):
        training.run_epoch()
        digest = hashlib.sha256(repr([(result.train, result.val) for result in training.history]).encode())
        for kind in training.networks.values():
            for tensor in kind.state_dict().values():
                digest.update(tensor.numpy().tobytes())
        found[name] = digest.hexdigest()
    return found


def as_rank(rank: int, meeting: Path) -> dict[str, Any]:
    """What one of two processes finds; they meet at a file that does not exist yet."""
    distributed.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=2)
    try:
        share = Share(rank, 2)
        with_norms = train_with_norm(share, meeting.parent)
        return {**train(share), "with norms": with_norms}
    finally:
        distributed.destroy_process_group()


def test_two_shares_train_as_the_whole(tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    with subprocess.Popen([sys.executable, __file__, str(meeting)], stdout=subprocess.PIPE, text=True) as other:
        try:
            first = as_rank(0, meeting)
            second = json.loads(other.communicate(timeout=300)[0])
        finally:
            other.kill()  # if this rank has failed, the other waits for it
    assert other.returncode == 0
    assert first == second
    with_norms = first.pop("with norms")
    assert with_norms["rest"] == with_norms["whole"]
    alone = train(ALONE)
    for key, expected in alone.items():
        for found, value in zip(first[key], expected, strict=True):
            assert found == pytest.approx(value, rel=1e-4, abs=1e-6), key


if __name__ == "__main__":
    json.dump(as_rank(1, Path(sys.argv[1])), sys.stdout)
