"""Reads trained weights: from a file, or by the name that torchvision or timm gives them.

Nothing in a file is executed. A library downloads weights that it does not have in its cache yet.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from types import MappingProxyType

import torch
from safetensors.torch import load_file
from torch import Tensor

from nas.weights import Weights, WeightsError
from search_spaces import Architecture, parse_architecture
from search_spaces.errors import named, printable
from trainers.checkpoint import DamagedError, is_whole

_INSIDE = ("averaged", "state_dict_ema", "model_ema", "state_dict", "model", "net")
"""Keys under which training programs keep a network's state dict; the first that is there is taken, so an average
comes before the weights it was made of."""
_WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put in front of every name."""


def read_weights(source: str) -> Weights:
    """Trained weights, on the CPU.

    Args:
        source: a ``.safetensors`` file; another file by `torch.save`, such as a ``.pth`` or a ``checkpoint.pt`` of
            `nas train`; ``torchvision:resnet50`` or ``torchvision:ResNet50_Weights.IMAGENET1K_V1``; ``timm:NAME``.

    Raises:
        WeightsError: it is not there, holds more than tensors, is damaged, or is not known to the library.
    """
    library, colon, name = source.partition(":")
    if colon and library in _LIBRARIES:
        with _saying(source, f"check the name and the connection to where {library} keeps its weights"):
            return Weights(source, _LIBRARIES[library](name), library)
    tensors, architecture = _of_file(Path(source))
    return Weights(source, _unwrapped(tensors), architecture=architecture)


def digest(weights: Weights) -> str:
    """SHA-256 of the names and values: equal for equal weights, whatever their file."""
    found = hashlib.sha256()
    for name, value in sorted(weights.tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _of_file(path: Path) -> tuple[Mapping[str, Tensor], Architecture | None]:
    remedy = "give a .safetensors file, or a state_dict saved by torch.save"
    if not path.is_file():
        raise WeightsError(f"{named(path)}: no such file; {remedy}, or torchvision:NAME or timm:NAME")
    if path.suffix == ".safetensors":
        with _saying(path, remedy):
            return load_file(path), None
    with _saying(path, remedy):
        state = torch.load(path, map_location="cpu", weights_only=True)
    architecture = None
    if isinstance(state, Mapping) and {"training", "architecture"} <= state.keys():
        if not is_whole(path):
            raise DamagedError(f"{named(path)}: not a whole checkpoint; take checkpoint.before.pt beside it")
        architecture = parse_architecture(state["architecture"], str(path))
    for inside in (state, *(state[key] for key in _INSIDE if isinstance(state, Mapping) and key in state)):
        if isinstance(inside, Mapping) and inside and all(isinstance(value, Tensor) for value in inside.values()):
            return inside, architecture
    raise WeightsError(f"{named(path)}: holds no state dict (names and tensors); {remedy}")


def _unwrapped(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
    return tensors


def _torchvision(name: str) -> Mapping[str, Tensor]:
    models = import_module("torchvision.models")
    chosen = models.get_weight(name) if "." in name else models.get_model_weights(name).DEFAULT
    state: Mapping[str, Tensor] = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True)
    return state


def _timm(name: str) -> Mapping[str, Tensor]:
    try:
        timm = import_module("timm")
    except ModuleNotFoundError:
        raise WeightsError(f"timm:{name}: timm is not installed; pip install timm") from None
    state: Mapping[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    return state


_LIBRARIES: Mapping[str, Callable[[str], Mapping[str, Tensor]]] = MappingProxyType(
    {"torchvision": _torchvision, "timm": _timm}
)


@contextmanager
def _saying(source: object, remedy: str) -> Iterator[None]:
    """Turns what a reader raises into one line. Readers of foreign files and networks raise a dozen types."""
    try:
        yield
    except WeightsError:
        raise
    except UnpicklingError as error:
        code = "Unsupported global" in str(error)  # a function or a class, in torch's words
        why = "holds more than tensors, and nothing in a file is run" if code else "is no file of torch.save"
        raise WeightsError(f"{named(source)}: {why}; {remedy}") from None
    except Exception as error:
        why = printable(str(error)).partition(". ")[0][:200] or type(error).__name__
        raise WeightsError(f"{named(source)}: cannot be read ({why}); {remedy}") from error
