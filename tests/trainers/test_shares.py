"""Two processes, each with a share of every batch, give the same training as one process with whole batches."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from search_spaces import Architecture, load_space
from trainers import ALONE, DataConfig, Share, TrainerConfig, Training, load_data


def network(architecture: Architecture) -> nn.Module:
    """A network without batch normalisation, which would see only the share."""
    classes = architecture.skeleton.num_classes
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 8, classes))


def train(share: Share) -> dict[str, list[list[float]]]:
    """Trains with odd batches, so one process has one image more, and evaluates an odd number of images."""
    torch.set_num_threads(1)
    config = TrainerConfig.model_validate({"epochs": 2, "batch_size": 33, "lr": 0.02})
    data = load_data(DataConfig.model_validate({"name": "shapes", "train_size": 100, "val_size": 67}))
    training = Training(load_space("shapes").plain(), data, config, share=share, build=network)
    results = [training.run_epoch() for _ in range(config.epochs)]
    return {
        "figures": [[*r.train.values(), *r.val.values()] for r in results],
        "weights": [parameter.flatten().tolist() for parameter in training.model.parameters()],
    }


def test_two_shares_train_as_the_whole(tmp_path: Path) -> None:
    command = [sys.executable, __file__, str(tmp_path / "meeting")]
    ranks = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(2)]
    outputs = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    first, second = (json.loads(output) for output in outputs)
    assert first == second
    alone = train(ALONE)
    for key, expected in alone.items():
        for found, value in zip(first[key], expected, strict=True):
            assert found == pytest.approx(value, rel=1e-4, abs=1e-6), key


if __name__ == "__main__":
    rank = int(sys.argv[2])
    distributed.init_process_group("gloo", init_method=Path(sys.argv[1]).as_uri(), rank=rank, world_size=2)
    json.dump(train(Share(rank, 2)), sys.stdout)
    distributed.destroy_process_group()
