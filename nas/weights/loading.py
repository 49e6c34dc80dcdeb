"""Loads trained weights into a network and says what became of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.builder import build_model, build_placed
from nas.weights.layouts import LAYOUTS, from_peer, layout_of
from search_spaces import Architecture, UserFacingError
from search_spaces.errors import named, printable
from search_spaces.sites import EMPTY

_SHOWN = 8
"""Problems that a message lists; the others are counted."""
_COUNTER = "num_batches_tracked"
"""A norm's counter of steps. Old files lack it, and nothing depends on it."""


class WeightsError(UserFacingError, ValueError):
    """Weights that cannot be read, or that do not fit the network. One line for each problem."""

    names_file = True


@dataclass(frozen=True, slots=True)
class Weights:
    """Trained weights, and where they come from."""

    name: str
    """In messages: a file, or ``torchvision:resnet50``."""
    tensors: Mapping[str, Tensor]
    """A state dict in anyone's names."""
    peer: str | None = None
    """The library whose names they are; None: the names tell."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of weights. Names are state-dict keys."""

    source: str
    peer: str | None
    """Whose names the file has; None: ours."""
    loaded: tuple[str, ...]
    """Ours."""
    new: tuple[str, ...]
    """Ours that the file does not have: they keep their initial values."""
    left: tuple[str, ...]
    """The file's that the network does not have."""
    notes: tuple[str, ...]
    """What else a user should know, a line each."""

    def lines(self) -> Iterator[str]:
        """The report, a line at a time."""
        names = "" if self.peer is None else f" (names of {self.peer})"
        yield f"{named(self.source)}{names}: {len(self.loaded)} tensors loaded"
        if self.new:
            yield f"new: {_listed(self.new)}"
        if self.left:
            yield f"left in the file: {_listed(self.left)}"
        yield from self.notes


def load_weights(network: nn.Module, architecture: Architecture, weights: Weights) -> Loaded:
    """Loads trained weights into a network, in place.

    The network keeps its own initial values in the operators that the file does not have, and in the head if the file
    has another number of classes. If the images are grey and the file's are not, the kernels of the first convolution
    are summed over the colours: then a grey picture gives what it gives there as a picture in equal colours.

    Args:
        network: built from ``architecture``; nothing changes if an error is raised.
        architecture: the network's.
        weights: in our names or in those of a library in `LAYOUTS`.

    Raises:
        WeightsError: a part of the skeleton is missing in the file or has another shape, or the file has parts that the
            skeleton lacks. Names all of them.
    """
    skeleton = architecture.skeleton
    plain = build_model(Architecture(skeleton), device="meta")
    state = network.state_dict()
    peer = _peer(weights, skeleton.family, plain, state)
    found, left, notes = dict(weights.tensors), list[str](), list[str]()
    if peer is not None:
        layout = LAYOUTS[skeleton.family][peer]
        found, left = from_peer(weights.tensors, layout, plain, dict.fromkeys([*plain.state_dict(), *state]))
        notes += [f"{peer}'s network differs: {text}" for concerns, text in layout.differs if concerns(skeleton)]
    owners = _owners(architecture)
    stem, head = _ends(plain)
    problems = [f"{name} is not in the network" for name in left if not name.endswith(_COUNTER)]
    taken, new = dict[str, Tensor](), list[str]()
    for name, own in state.items():
        value = found.get(name)
        if value is None:
            if _owner(name, owners) not in {None, *EMPTY.values()}:
                new.append(name)
            elif not name.endswith(_COUNTER):
                problems.append(f"{_both(name, peer, skeleton.family)} is missing")
            continue
        del found[name]
        if value.shape == own.shape:
            taken[name] = value
        elif name in head and value.shape[1:] == own.shape[1:]:
            new.append(name)
            left.append(name)
        elif name == stem and own.shape[1] == 1 and value.shape == (len(own), 3, *own.shape[2:]):
            taken[name] = value.sum(1, keepdim=True)
            notes.append(f"{name} is summed over three colours, because the images are grey")
        else:
            theirs, ours = ("x".join(map(str, tensor.shape)) or "a single number" for tensor in (value, own))
            problems.append(f"{_both(name, peer, skeleton.family)} is {theirs}, and {ours} in the network")
    for name in found:
        if _owner(name, owners) is not None:
            left.append(name)
        elif not name.endswith(_COUNTER):
            problems.append(f"{printable(name)} is not in the network")
    if problems:
        shown = [f"{named(weights.name)}: {problem}" for problem in problems[:_SHOWN]]
        if problems[_SHOWN:]:
            shown.append(f"{named(weights.name)}: and {len(problems) - _SHOWN} more differences")
        shown[-1] += f"; give weights of this network ({skeleton.family}), or another network to train"
        raise WeightsError("\n".join(shown))
    if head.intersection(new):
        notes.append("the head is new, because the file has another number of classes")
    with torch.no_grad():
        for name, value in taken.items():
            state[name].copy_(value)
    return Loaded(weights.name, peer, tuple(taken), tuple(new), tuple(left), tuple(notes))


def _peer(weights: Weights, family: str, plain: nn.Module, state: Mapping[str, Tensor]) -> str | None:
    """The library whose names the weights have; None: ours."""
    if weights.peer is not None:
        try:
            layout_of(family, weights.peer)
        except ValueError as error:
            raise WeightsError(f"{named(weights.name)}: {error}") from None
        return weights.peer
    names = {**plain.state_dict(), **state}
    known: dict[str | None, int] = {None: len(names.keys() & weights.tensors.keys())}
    for peer, layout in LAYOUTS.get(family, {}).items():
        known[peer] = len(from_peer(weights.tensors, layout, plain, names)[0])
    best = max(known, key=lambda peer: known[peer])
    if not known[best]:
        first = ", ".join(printable(name) for name in list(weights.tensors)[:3]) or "there is none"
        whose = " or ".join(["ours", *(peer for peer in known if peer)])
        raise WeightsError(
            f"{named(weights.name)}: its names ({first}) are none of a {family} in the names of {whose}; "
            "give weights of this network, or rename them"
        )
    return best


def _owners(architecture: Architecture) -> dict[str, str]:
    """Path of the module in every open slot -> its option."""
    network, placed = build_placed(architecture, device="meta")
    paths = {id(module): path for path, module in network.named_modules()}
    return {
        paths[id(module)]: architecture.resolved.get(block, {}).get(slot, (EMPTY[slot], {}))[0]
        for (block, slot), module in placed.items()
    }


def _owner(name: str, owners: Mapping[str, str]) -> str | None:
    """The option in whose module a tensor is; None: it belongs to the skeleton."""
    path = name
    while path:
        path = path.rpartition(".")[0]
        if path in owners:
            return owners[path]
    return None


def _ends(network: nn.Module) -> tuple[str, set[str]]:
    """The names of the first convolution's weights, and of the last layer's weights and biases."""
    convolutions = [path for path, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    layers = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    return f"{convolutions[0]}.weight", {f"{layers[-1]}.weight", f"{layers[-1]}.bias"}


def _both(name: str, peer: str | None, family: str) -> str:
    """A name of ours and, in brackets, the file's."""
    if peer is None:
        return name
    path, _, leaf = name.rpartition(".")
    return f"{name} ({LAYOUTS[family][peer].translated(path)}.{leaf} there)"


def _listed(names: Sequence[str]) -> str:
    """Modules of tensors, each once; long lists are cut."""
    modules = list(dict.fromkeys(printable(name.rpartition(".")[0]) for name in names))
    more = f" and {len(modules) - _SHOWN} more" if modules[_SHOWN:] else ""
    return f"{', '.join(modules[:_SHOWN])}{more}"
