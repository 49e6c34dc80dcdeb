"""One label per image: cross entropy, and the share of images whose highest logit is the label's (top-1)."""

from collections.abc import Iterator

import torch
from torch.nn.functional import cross_entropy

from nas import build_model
from search_spaces import Architecture
from trainers.batches import Batch, Batches
from trainers.config import TrainerConfig
from trainers.datasets.base import Dataset
from trainers.distributed import Share, total
from trainers.tasks.base import Evaluation, Run, Step, Task


def check(architecture: Architecture, dataset: Dataset) -> None:
    """Raises ValueError, which names every difference, if classes, image size or channels differ."""
    keys = ("num_classes", "image_size", "in_channels")
    pairs = {f"skeleton.{key}": (getattr(architecture.skeleton, key), getattr(dataset, key)) for key in keys}
    wrong = {key: (has, needs) for key, (has, needs) in pairs.items() if has != needs}
    if wrong:
        found = "; ".join(f"{key} is {has}, and {dataset.name} has {needs}" for key, (has, needs) in wrong.items())
        raise ValueError(f"{found}; set {' and '.join(f'{key}: {needs}' for key, (_, needs) in wrong.items())}")


def step(network: Run, batch: Batch, config: TrainerConfig) -> Step:
    """Cross entropy in nats per image, with the label smoothing of `config`, and the number of correct answers."""
    images, labels = batch
    logits = network(images)
    loss = cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
    return Step(loss, {"top1": (logits.detach().argmax(1) == labels).sum()}, len(labels))


def evaluate(network: Run, batches: Iterator[Batch], device: torch.device, share: Share) -> Evaluation:
    """``loss``: cross entropy in nats per image; ``top1``: a share in [0, 1]."""
    tally = torch.zeros(3, dtype=torch.float64, device=device)  # an empty share contributes zeros
    for images, labels in batches:
        logits = network(images)
        loss = cross_entropy(logits.float(), labels, reduction="sum")
        correct = (logits.argmax(1) == labels).sum()
        tally += torch.stack([loss, correct, torch.full_like(correct, len(labels))])
    loss_sum, correct_sum, count = total(tally, share).tolist()
    return Evaluation({"loss": loss_sum / count, "top1": correct_sum / count}, int(count))


CLASSIFICATION = Task(check=check, build=build_model, feed=Batches, step=step, evaluate=evaluate)
