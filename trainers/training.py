"""Training as a value that goes forward one epoch at a time, can be put down and taken up again.

Weights, order, augmentation and whatever a network draws in its forward pass follow from (seed, epoch), the learning
rate from the step. So a checkpoint holds no random state, and a training restored at epoch k goes on, on a CPU bit for
bit, as if never interrupted.
"""

import functools
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from nas import build_model
from search_spaces import Architecture
from trainers.batches import ALONE, Batches, Share
from trainers.config import TrainerConfig
from trainers.data import Dataset

SplitName: TypeAlias = Literal["train", "val", "test"]
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (steps done, steps of the epoch) after every training step."""

_CHECKPOINT_FORMAT = 1
_CHECK_EVERY = 50
"""Steps between two looks at the loss: each makes the host wait for the device."""


class Diverged(ArithmeticError):
    """The loss is no longer finite."""

    def __init__(self, epoch: int, lr: float) -> None:
        super().__init__(epoch, lr)
        self.epoch, self.lr = epoch, lr

    def __str__(self) -> str:
        return (
            f"loss is not finite in epoch {self.epoch} at learning rate {self.lr:.4g}; "
            "lower trainer.lr or warm up for longer"
        )


class OutOfMemory(RuntimeError):
    """The device's memory did not suffice.

    `peak_bytes` is the most that was allocated at once; None where the allocator does not keep count, as on a CPU.
    """

    def __init__(self, message: str, peak_bytes: int | None = None) -> None:
        super().__init__(message, peak_bytes)
        self.peak_bytes = peak_bytes

    def __str__(self) -> str:
        return str(self.args[0])


class CheckpointError(ValueError):
    """A file is no checkpoint, or one of another training."""


_OUT_OF_MEMORY = ("can't allocate memory", "CUDA out of memory", "ALLOC_FAILED")
"""How allocators say it that have no exception of their own: the CPU's, and those inside cuBLAS and cuDNN."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _telling_memory(method: "Callable[Concatenate[Training, _P], _T]") -> "Callable[Concatenate[Training, _P], _T]":
    """Lets an allocator's failure leave `method` as `OutOfMemory`."""

    @functools.wraps(method)
    def telling(self: "Training", /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return method(self, *args, **kwargs)
        except OutOfMemory:
            raise
        except (RuntimeError, MemoryError) as error:
            known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
            if not known and not any(sign in str(error) for sign in _OUT_OF_MEMORY):
                raise
            message = str(error).partition("\n")[0] or "memory ran out"
        # Outside the handler: chained, the error would keep its frames, and they the activations.
        device = self._device
        raise OutOfMemory(message, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None)

    return telling


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What an epoch gave. Losses in nats an image, top1 as a share in [0, 1], seconds of wall time with evaluation."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean over the epoch's steps as they were trained: augmented, label-smoothed."""
    train_top1: float
    val_loss: float
    val_top1: float
    lr: float
    """Of the epoch's last step."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of a split: `loss` is the cross entropy in nats an image, `top1` a share in [0, 1]."""

    loss: float
    top1: float
    images: int


class Training:
    """One network's training.

    Args:
        architecture: what to train; its skeleton must fit the data set.
        dataset: its `test` split is read by `evaluate("test")` alone.
        config: the recipe.
        epochs: length of the schedule, which is the same wherever the training stops; `config.epochs` when left out.
        seed: `config.seed` when left out.
        device: where to train.
        share: this process's part of every batch. The others' trainings do the rest, and go forward together with this
            one: each must be made, restored and run as this one is, in a process group of `torch.distributed` of
            ``share.of`` ranks. All report the same. Batch normalisation sees the share alone.
        build: makes the network.

    Raises:
        ValueError: the skeleton does not fit the data set.
        OutOfMemory: the network does not fit the device.
    """

    @_telling_memory
    def __init__(
        self,
        architecture: Architecture,
        dataset: Dataset,
        config: TrainerConfig,
        *,
        epochs: int | None = None,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        share: Share = ALONE,
        build: Callable[[Architecture], nn.Module] = build_model,
    ) -> None:
        _check_fit(architecture, dataset)
        self.architecture = architecture
        self.epochs = config.epochs if epochs is None else epochs
        self.history: tuple[EpochResult, ...] = ()
        """The finished epochs, restored ones too."""
        self._seed = config.seed if seed is None else seed
        self._config, self._dataset, self._device, self._share = config, dataset, torch.device(device), share
        self._amp, channels_last = precision(config, self._device)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        with self._seeded(0):
            self.model = build(architecture).to(self._device).to(memory_format=memory_format)
            self._optimizer = _make_optimizer(self.model, config)
        self._forward: nn.Module = torch.compile(self.model) if config.compile else self.model  # type: ignore[assignment]
        # For training steps: gradients are averaged over the ranks, whose weights are made equal here.
        self._step = (
            DistributedDataParallel(self._forward, gradient_as_bucket_view=True) if share.of > 1 else self._forward
        )
        self._batches = Batches(dataset, config.batch_size, self._device, memory_format, share)

    @property
    def epoch(self) -> int:
        """How many epochs are finished."""
        return len(self.history)

    @_telling_memory
    def run_epoch(self, progress: Progress | None = None) -> EpochResult:
        """Trains for one epoch and evaluates on `val`.

        Raises:
            Diverged: the loss became NaN or infinite.
            OutOfMemory: a batch does not fit the device.
            DataError: an image cannot be read.
            ValueError: the schedule has ended.
        """
        if self.epoch >= self.epochs:
            raise ValueError(f"all {self.epochs} epochs are trained; a longer schedule needs a training of its own")
        started = time.perf_counter()
        with self._seeded(self.epoch + 1), torch.backends.cudnn.flags(benchmark=True):
            train = self._train(progress)
            val = self.evaluate("val")
        lr = self._lr((self.epoch + 1) * self._batches.steps - 1)
        if not math.isfinite(val.loss):
            raise Diverged(self.epoch + 1, lr)
        seconds = time.perf_counter() - started
        result = EpochResult(self.epoch + 1, train.loss, train.top1, val.loss, val.top1, lr, seconds)
        self.history += (result,)
        return result

    @_telling_memory
    def evaluate(self, split: SplitName) -> Evaluation:
        """Loss and top-1 of a whole split, unaugmented, with the weights as they are."""
        data = {"train": self._dataset.train, "val": self._dataset.val, "test": self._dataset.test}[split]
        was_training = self.model.training
        self.model.eval()
        tally = torch.zeros(2, dtype=torch.float64, device=self._device)
        if self._share.of > 1:  # the statistics that a checkpoint would hold; each rank has its own
            for buffer in self.model.buffers():
                distributed.broadcast(buffer, 0)
        with torch.inference_mode():
            for images, labels in self._batches.evaluate(data):
                with self._autocast():
                    logits = self._forward(images)
                _count(tally, cross_entropy(logits.float(), labels, reduction="sum"), logits, labels)
        self.model.train(was_training)
        loss, correct = self._total(tally).tolist()
        return Evaluation(loss / len(data), correct / len(data), len(data))

    def save(self, path: Path) -> None:
        """Writes a checkpoint, the same on every rank.

        `path` is at every moment absent, the old file or the new one, even if power fails.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                torch.save(self._state(), file)
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

    def restore(self, path: Path) -> None:
        """Takes up the training that `save` wrote. Nothing in the file is executed.

        Raises:
            CheckpointError: the file is damaged, or of another architecture, seed, schedule or recipe.
            FileNotFoundError: there is no such file.
        """
        try:
            state: dict[str, Any] = torch.load(path, map_location=self._device, weights_only=True)
            kept, own = state["training"], self._identity()
        except FileNotFoundError:
            raise
        except Exception as error:  # torch raises a dozen kinds, from zip, unpickling and its own
            raise CheckpointError(f"{path}: not a readable checkpoint; remove it to train from the start") from error
        for key in own:
            if kept.get(key) != own[key]:
                raise CheckpointError(
                    f"{path}: of a training with {key} {kept.get(key)}, and this one has {own[key]}; "
                    "use the same settings or remove the file to train from the start"
                )
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.history = tuple(EpochResult(**result) for result in state["history"])

    def _identity(self) -> dict[str, object]:
        """What must be equal for a training to go on; plain values."""
        config = self._config.model_dump(exclude={"epochs", "seed", "amp", "channels_last", "compile"})
        return {
            "format": _CHECKPOINT_FORMAT,
            "architecture": self.architecture.fingerprint,
            "data": self._dataset.name,
            "training images": len(self._dataset.train),
            "mean": self._dataset.mean,  # other images of the same number have another one
            "epochs": self.epochs,
            "seed": self._seed,
            **config,
        }

    def _state(self) -> dict[str, object]:
        return {
            "training": self._identity(),
            "architecture": self.architecture.dump(),
            "mean": self._dataset.mean,
            "std": self._dataset.std,
            "classes": self._dataset.classes,
            "history": [asdict(result) for result in self.history],
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def _train(self, progress: Progress | None) -> Evaluation:
        config, steps, size = self._config, self._batches.steps, self._batches.size
        self.model.train()
        tally = torch.zeros(2, dtype=torch.float64, device=self._device)
        for i, (images, labels) in enumerate(self._batches.train(self.epoch, self._seed, config.augment)):
            lr = self._lr(self.epoch * steps + i)
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            with self._autocast():
                logits = self._step(images)
            loss = cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
            self._optimizer.zero_grad(set_to_none=True)
            # The mean over ranks of shares that may differ by an image is to be the mean over the batch.
            loss.backward(torch.full_like(loss, self._share.of * len(labels) / size))  # type: ignore[no-untyped-call]
            self._optimizer.step()
            _count(tally, loss.detach() * len(labels), logits.detach(), labels)
            if (i % _CHECK_EVERY == 0 or i == steps - 1) and not math.isfinite(self._total(tally)[0].item()):
                raise Diverged(self.epoch + 1, lr)
            if progress is not None:
                progress(i + 1, steps)
        loss_sum, correct = self._total(tally).tolist()
        return Evaluation(loss_sum / (steps * size), correct / (steps * size), steps * size)

    def _total(self, tally: Tensor) -> Tensor:
        """The sum over all ranks, which all of them must ask for."""
        if self._share.of > 1:
            tally = tally.clone()
            distributed.all_reduce(tally)
        return tally

    def _lr(self, step: int) -> float:
        """Linear from 0 to the peak, then half a cosine to 0 (Loshchilov and Hutter, ICLR 2017), over all epochs."""
        total = self.epochs * self._batches.steps
        warmup = min(round(self._config.warmup_epochs * self._batches.steps), total - 1)
        if step < warmup:
            return self._config.lr * (step + 1) / warmup
        return self._config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._amp)

    @contextmanager
    def _seeded(self, epoch: int) -> Iterator[None]:
        """Torch's generators start from (seed, epoch, rank) inside, and are afterwards as they were."""
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            state = np.random.SeedSequence([self._seed, epoch, self._share.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(state[0] >> 1))
            yield


def precision(config: TrainerConfig, device: torch.device) -> tuple[bool, bool]:
    """What `auto` comes to on a device: (bfloat16 autocast, channels_last)."""
    on_cuda = device.type == "cuda"
    amp = on_cuda and torch.cuda.is_bf16_supported() if config.amp == "auto" else config.amp
    return amp, (amp or not on_cuda) if config.channels_last == "auto" else config.channels_last


def fit(training: Training, checkpoint: Path, progress: Progress | None = None) -> Iterator[EpochResult]:
    """Trains to the end of the schedule, with a checkpoint after every epoch; goes on from `checkpoint` if it is there.

    Yields the results of the epochs that were trained now; those before are in `training.history`.

    Raises:
        CheckpointError: the file at `checkpoint` is another training's.
        Diverged, OutOfMemory, DataError: as `Training.run_epoch`.
    """
    if checkpoint.exists():
        training.restore(checkpoint)
    while training.epoch < training.epochs:
        result = training.run_epoch(progress)
        training.save(checkpoint)
        yield result


def _make_optimizer(model: nn.Module, config: TrainerConfig) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.lr, config.momentum, nesterov=config.nesterov, fused=True)
    return torch.optim.AdamW(groups, config.lr, (config.momentum, 0.999), fused=True)


def _count(tally: Tensor, loss_sum: Tensor, logits: Tensor, labels: Tensor) -> None:
    """Adds a batch to (sum of losses, correct answers) without waiting for the device."""
    tally += torch.stack([loss_sum, (logits.argmax(1) == labels).sum()])


def _check_fit(architecture: Architecture, dataset: Dataset) -> None:
    skeleton = architecture.skeleton
    for key in ("num_classes", "image_size", "in_channels"):
        has, needs = getattr(skeleton, key), getattr(dataset, key)
        if has != needs:
            raise ValueError(f"skeleton.{key} is {has}, and {dataset.name} has {needs}; set skeleton.{key}: {needs}")
