"""A training that advances one epoch at a time and can be saved and restored.

Weights, order, augmentation and the random numbers of the forward pass depend only on (seed, epoch), the learning rate
only on the step. So a checkpoint holds no random state, and a training restored at epoch k continues as if it had not
been interrupted, on a CPU bit for bit.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from nas import memory_format, quick_start
from nas.weights import Loaded, Weights, load_weights
from search_spaces import Architecture
from trainers import checkpoint, ema
from trainers.config import TrainerConfig
from trainers.datasets.base import Dataset
from trainers.distributed import ALONE, Share, equal_buffers, in_step, total, weight
from trainers.optim import learning_rate, make_optimizer
from trainers.tasks import TASKS, Evaluation, Metrics
from trainers.weights import digest

SplitName: TypeAlias = Literal["train", "val", "test"]
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (steps done, steps of the epoch) after every training step."""

_FITTED = 256
"""Pictures on which operators are fitted that replace parts of a trained network."""
_CHECK_EVERY = 50
"""Steps between two checks of the loss. Each check makes the host wait for the device."""


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
    """The device's memory was too small.

    `peak_bytes` is the peak of allocated memory; None if the allocator does not record it, as on a CPU.
    """

    def __init__(self, message: str, peak_bytes: int | None = None) -> None:
        super().__init__(message, peak_bytes)
        self.peak_bytes = peak_bytes

    def __str__(self) -> str:
        return str(self.args[0])


_OUT_OF_MEMORY = ("can't allocate memory", "CUDA out of memory", "ALLOC_FAILED")
"""Messages of allocators without an exception class of their own: the CPU's, and those in cuBLAS and cuDNN."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _telling_memory(method: "Callable[Concatenate[Training, _P], _T]") -> "Callable[Concatenate[Training, _P], _T]":
    """Converts an allocator's error in `method` to `OutOfMemory`."""

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
        # Raised outside the handler: a chained error would keep its frames, and the frames the activations.
        device = self._device
        raise OutOfMemory(message, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None)

    return telling


@dataclass(frozen=True, slots=True)
class EpochResult:
    """The results of an epoch; metrics have the task's names."""

    epoch: int
    """Counted from 1."""
    train: Metrics
    """Means over the epoch's training steps, with augmentation and label smoothing."""
    val: Metrics
    """Metrics of the whole split after the epoch, by the averaged network if there is one."""
    lr: float
    """Learning rate of the epoch's last step."""
    seconds: float
    """Wall time, evaluation included."""


class Training:
    """One network's training.

    Args:
        architecture: the network; its skeleton must fit the data set.
        dataset: names its task. Only `evaluate("test")` reads its `test` split.
        config: the training settings.
        epochs: length of the schedule, even if the training stops earlier; default: `config.epochs`.
        seed: default: `config.seed`.
        device: where to train.
        share: this process's part of every batch. The trainings of the other ranks must be created, restored and run
            in the same way, in a process group of `torch.distributed` with ``share.world_size`` ranks. All report the
            same figures. Batch normalisation sees only the share.
        weights: where the network starts; default: from random values.
        build: builds the network; default: the task's builder.

    Raises:
        ValueError: the skeleton does not fit the data set.
        WeightsError: the weights do not fit the network.
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
        weights: Weights | None = None,
        build: Callable[[Architecture], nn.Module] | None = None,
    ) -> None:
        self.task = TASKS[dataset.task].load()
        self.task.check(architecture, dataset)
        self.architecture = architecture
        self.epochs = config.epochs if epochs is None else epochs
        self.history: tuple[EpochResult, ...] = ()
        """The finished epochs, including restored ones."""
        self.model: nn.Module
        """The network with the trained weights."""
        self.averaged: nn.Module | None = None
        """The network with the averaged weights, if `config.ema_epochs` is above 0."""
        self.loaded: Loaded | None = None
        """What became of `weights`."""
        self._seed = config.seed if seed is None else seed
        self._from = None if weights is None else digest(weights)
        self._config, self._dataset, self._device, self._share = config, dataset, torch.device(device), share
        self._amp, channels_last = precision(config, self._device)
        with self._seeded(0):
            self.model = (build or self.task.build)(architecture).to(self._device)
            layout = memory_format(self.model, self._device.type, channels_last=channels_last)
            self._batches = self.task.feed(dataset, config.batch_size, self._device, layout, share)
            if weights is not None:
                self.loaded = load_weights(self.model, architecture, weights, pictures=self._pictures)
            elif config.start == "quick":
                quick_start(self.model)
            self.model.to(memory_format=layout)
            self._optimizer = make_optimizer(self.model, config)
        self._step = in_step(self.model, share)
        if config.ema_epochs:
            self.averaged = ema.begin(self.model)  # after `in_step`, which makes the ranks' weights equal
        if config.compile:
            for network in self.networks.values():
                network.compile()

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks with averaged and with trained weights, by their names in a checkpoint. The first is judged."""
        trained = {"model": self.model}
        return trained if self.averaged is None else {"averaged": self.averaged, **trained}

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
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
            raise ValueError(f"all {self.epochs} epochs are trained; a longer schedule needs a new training")
        started = time.perf_counter()
        with self._seeded(self.epoch + 1), torch.backends.cudnn.flags(benchmark=True):
            train = self._train(progress)
            if self.averaged is not None:
                self.renew(self.averaged)
            val = self.evaluate("val")
        lr = self._lr((self.epoch + 1) * self._batches.steps - 1)
        if not math.isfinite(val.metrics["loss"]):
            raise Diverged(self.epoch + 1, lr)
        seconds = time.perf_counter() - started
        result = EpochResult(self.epoch + 1, train, val.metrics, lr, seconds)
        self.history += (result,)
        return result

    @_telling_memory
    def evaluate(self, split: SplitName, network: nn.Module | None = None) -> Evaluation:
        """The task's metrics of a whole split, without augmentation.

        Args:
            split: which images.
            network: one of `networks`, or a copy; default: the first of them.
        """
        data = {"train": self._dataset.train, "val": self._dataset.val, "test": self._dataset.test}[split]
        if network is None:
            network = next(iter(self.networks.values()))
        was_training = network.training
        network.eval()
        found = self._run(network, self._batches.evaluate(data))
        network.train(was_training)
        return found

    @_telling_memory
    def renew(self, average: nn.Module) -> None:
        """Makes the norm statistics of averaged weights, from training images without augmentation.

        Args:
            average: from `ema.begin`.
        """
        split = self._dataset.train
        few = split.take(ema.sample(len(split), self._batches.steps, self._batches.size))
        # `forward` is never compiled. Compiling for a few batches would not pay.
        ema.renew(average, self.model, lambda: self._run(average.forward, self._batches.evaluate(few)), self._share)

    def _pictures(self) -> Iterator[Tensor]:
        """Training images without augmentation, spread over the split, as the network gets them."""
        split = self._dataset.train
        few = split.take(np.linspace(0, len(split) - 1, min(_FITTED, len(split)), dtype=np.intp))
        for images, *_ in self._batches.evaluate(few):
            yield images

    def _run(self, network: Callable[..., Any], batches: Iterator[Any]) -> Evaluation:
        """The task's metrics of batches; the network's mode stays as it is."""
        with torch.inference_mode():
            return self.task.evaluate(self._autocast(network), batches, self._device, self._share)

    def save(self, path: Path, *, before: Path | None = None) -> None:
        """Writes a checkpoint, as `checkpoint.save`. Its contents are the same on every rank."""
        state = {
            "architecture": self.architecture.dump(),
            "mean": self._dataset.mean,
            "std": self._dataset.std,
            "classes": self._dataset.classes,
            "history": [asdict(result) for result in self.history],
            **{name: network.state_dict() for name, network in self.networks.items()},
            "optimizer": self._optimizer.state_dict(),
        }
        checkpoint.save(path, self._identity(), state, before=before)

    def restore(self, path: Path) -> None:
        """Restores the training that `save` wrote. Nothing in the file is executed.

        Raises:
            CheckpointError: the file is damaged, or has another architecture, data set, seed, schedule or recipe.
            FileNotFoundError: there is no such file.
        """
        state = checkpoint.restore(path, self._identity(), self._device)
        for name, network in self.networks.items():
            network.load_state_dict(state[name])
        self._optimizer.load_state_dict(state["optimizer"])
        self.history = tuple(EpochResult(**result) for result in state["history"])

    def _identity(self) -> dict[str, object]:
        """The values that must be equal for a training to continue; plain values."""
        config = self._config.model_dump(exclude={"epochs", "seed", "amp", "channels_last", "compile"})
        return {
            "architecture": self.architecture.fingerprint,
            "data": self._dataset.name,
            "training images": len(self._dataset.train),
            "classes": self._dataset.classes,  # another class name changes the numbers of the others
            "mean": self._dataset.mean,  # tells apart equally many but different images
            "epochs": self.epochs,
            "seed": self._seed,
            "weights to start from": self._from,
            **config,
        }

    def _train(self, progress: Progress | None) -> Metrics:
        config, steps, size = self._config, self._batches.steps, self._batches.size
        self.model.train()
        forward = self._autocast(self._step)
        names: tuple[str, ...] = ("loss",)
        tally = torch.zeros(1, dtype=torch.float64, device=self._device)
        for i, batch in enumerate(self._batches.train(self.epoch, self._seed, config.augment)):
            lr = self._lr(self.epoch * steps + i)
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            step = self.task.step(forward, batch, config)
            self._optimizer.zero_grad(set_to_none=True)
            factor = torch.full_like(step.loss, weight(self._share, step.images, size))
            step.loss.backward(factor)  # type: ignore[no-untyped-call]
            self._optimizer.step()
            if self.averaged is not None:
                at = self.epoch * steps + i
                ema.update(self.averaged, self.model, ema.decay(at, config.ema_epochs * steps))
            if i == 0:
                names = ("loss", *step.sums)
                tally = tally.new_zeros(len(names))
            tally += torch.stack([step.loss.detach() * step.images, *step.sums.values()])
            if (i % _CHECK_EVERY == 0 or i == steps - 1) and not math.isfinite(total(tally, self._share)[0].item()):
                raise Diverged(self.epoch + 1, lr)
            if progress is not None:
                progress(i + 1, steps)
        equal_buffers(self.model, self._share)
        sums = total(tally, self._share).tolist()
        return {name: value / (steps * size) for name, value in zip(names, sums, strict=True)}

    def _lr(self, step: int) -> float:
        return learning_rate(self._config, step, steps=self._batches.steps, epochs=self.epochs)

    def _autocast(self, network: Callable[..., Any]) -> Callable[..., Any]:
        def run(*inputs: Any) -> Any:  # noqa: ANN401  # the task's own
            with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._amp):
                return network(*inputs)

        return run

    @contextmanager
    def _seeded(self, epoch: int) -> Iterator[None]:
        """Seeds torch's generators with (seed, epoch, rank) inside the block and restores them afterwards."""
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            state = np.random.SeedSequence([self._seed, epoch, self._share.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(state[0] >> 1))
            yield


def precision(config: TrainerConfig, device: torch.device) -> tuple[bool, bool]:
    """(bfloat16 autocast, channels_last) on a device, with `auto` resolved."""
    on_cuda = device.type == "cuda"
    amp = on_cuda and torch.cuda.is_bf16_supported() if config.amp == "auto" else config.amp
    return amp, (amp or not on_cuda) if config.channels_last == "auto" else config.channels_last


def fit(training: Training, path: Path, progress: Progress | None = None) -> Iterator[EpochResult]:
    """Trains to the end of the schedule, with a checkpoint after every epoch; continues from `path` if it exists.

    The previous checkpoint is kept beside it (``checkpoint.before.pt``). If the last one is damaged, training continues
    from the previous one, with a warning.

    Yields the results of the newly trained epochs; the earlier ones are in `training.history`.

    Raises:
        CheckpointError: the file at `path` belongs to another training.
        Diverged, OutOfMemory, DataError: as `Training.run_epoch`.
    """
    before = path.with_name(f"{path.stem}.before{path.suffix}")
    checkpoint.restore_newest([path, before], training.restore)
    while training.epoch < training.epochs:
        result = training.run_epoch(progress)
        training.save(path, before=before)
        yield result
