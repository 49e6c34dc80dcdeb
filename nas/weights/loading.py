"""Loads trained weights into a network and says what became of each."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nas.builder import build_model, build_placed
from nas.skeletons import Network
from nas.weights.insertion import Insertion, Pictures, insert
from nas.weights.layouts import LAYOUTS, from_peer, layout_of
from search_spaces import Architecture, UserFacingError
from search_spaces.errors import named, printable
from search_spaces.grammar import ResolvedChoice
from search_spaces.sites import EMPTY, Slot

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
    architecture: Architecture | None = None
    """Of the network that they are from, if it is known."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of weights. Names are state-dict keys."""

    source: str
    peer: str | None
    """Whose names the file has; None: ours."""
    loaded: tuple[str, ...]
    """Ours."""
    inserted: tuple[str, ...]
    """Operators that the file does not have: ``layer1.0.refine (se)``."""
    changing: tuple[str, ...]
    """Those of them that change the logits."""
    new: tuple[str, ...]
    """Ours that keep their initial values: a head for another number of classes."""
    left: tuple[str, ...]
    """The file's that the network does not have."""
    notes: tuple[str, ...]
    """What else a user should know, a line each."""

    def lines(self) -> Iterator[str]:
        """The report, a line at a time."""
        names = "" if self.peer is None else f" (names of {self.peer})"
        yield f"{named(self.source)}{names}: {len(self.loaded)} tensors loaded"
        if self.inserted:
            yield f"inserted: {_cut(self.inserted)}"
        if self.new:
            yield f"new: {_cut(_modules(self.new))}"
        if self.left:
            yield f"left in the file: {_cut(_modules(self.left))}"
        yield from self.notes


class _InSlot(NamedTuple):
    """What the architecture has in a slot."""

    block: str
    slot: Slot
    resolved: ResolvedChoice
    channels: int

    @property
    def option(self) -> str:
        """What is built there."""
        return self.resolved[0]

    def __str__(self) -> str:
        return f"{self.block}.{self.slot} ({self.option})"


def load_weights(
    network: nn.Module, architecture: Architecture, weights: Weights, *, pictures: Pictures | None = None
) -> Loaded:
    """Loads trained weights into a network, in place.

    Operators that the file does not have are inserted so that the logits stay what they are without them
    (`nas.weights.insertion`). The head keeps its own initial values if the file has another number of classes. If the
    images are grey and the file's are not, the kernels of the first convolution are summed over the colours: then a
    grey picture gives what it gives there as a picture in equal colours.

    Args:
        network: built from ``architecture``; nothing changes if an error is raised.
        architecture: the network's.
        weights: in our names or in those of a library in `LAYOUTS`.
        pictures: gives a few hundred, on which AA is fitted to the filters that it replaces; without them its attention
            starts as ever. Called only if it is needed.

    Raises:
        WeightsError: a part of the skeleton is missing in the file or has another shape, or the file has parts that the
            skeleton lacks. Names all of them.
    """
    if not isinstance(network, Network):
        kind = type(network).__name__
        raise WeightsError(f"{named(weights.name)}: weights can start a classification network, but not a {kind}")
    skeleton = architecture.skeleton
    plain = build_model(Architecture(skeleton), device="meta")
    slots = _slots(architecture)
    peer = _peer(weights, skeleton.family, plain, network.state_dict())
    found, left, notes = dict(weights.tensors), list[str](), list[str]()
    if peer is not None:
        layout = LAYOUTS[skeleton.family][peer]
        names = dict.fromkeys([*plain.state_dict(), *network.state_dict()])
        found, left = from_peer(weights.tensors, layout, plain, names)
        notes += [f"{peer}'s network differs: {text}" for concerns, text in layout.differs if concerns(skeleton)]
    insertions = _insertions(network, slots, found, weights.architecture)
    begun = {insertion.path for insertion in insertions}
    wanted = {name: own for name, own in network.state_dict().items() if _slot_of(name, slots) not in begun}
    wanted |= {name: own for name, own in plain.state_dict().items() if _slot_of(name, slots) in begun}
    stem, head = _ends(plain)
    problems = [f"{name} is not in the network" for name in left if not name.endswith(_COUNTER)]
    taken, new = dict[str, Tensor](), list[str]()
    for name, own in wanted.items():
        value = found.pop(name, None)
        if value is None:
            if not name.endswith(_COUNTER):
                problems.append(f"{_both(name, peer, skeleton.family)} is missing")
        elif value.shape == own.shape:
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
        if _slot_of(name, slots) is not None:
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
    for insertion in insertions:
        if insertion.is_convolution:
            _put_plain(network, plain, insertion.path)
    state = network.state_dict()
    with torch.no_grad():
        for name, value in taken.items():
            state[name].copy_(value)
    change = insert(network, insertions, pictures)
    inserted = {path: str(inside) for path, inside in slots.items() if path in begun}
    changing = tuple(inserted[path] for path in change.paths)
    if changing:
        notes.append(f"these change the logits: {_cut(changing)}")
    if change.share is not None and change.same is not None:
        notes.append(
            f"the change is {change.share:.0%} of the logits' deviation, and {change.same:.1%} of the pictures keep "
            "their class"
        )
    return Loaded(
        weights.name,
        peer,
        loaded=tuple(taken),
        inserted=tuple(inserted.values()),
        changing=changing,
        new=tuple(new),
        left=tuple(left),
        notes=tuple(notes),
    )


def _insertions(
    network: Network, slots: Mapping[str, _InSlot], found: Mapping[str, Tensor], known: Architecture | None
) -> list[Insertion]:
    """The operators that the file does not have, in the order of the forward pass."""

    def is_trained(path: str, inside: _InSlot) -> bool:
        state = network.get_submodule(path).state_dict()
        if not state:  # only the architecture tells
            return known is not None and known.resolved.get(inside.block, {}).get(inside.slot) == inside.resolved
        names = [name for name in state if not name.endswith(_COUNTER)]
        return all(f"{path}.{name}" in found and found[f"{path}.{name}"].shape == state[name].shape for name in names)

    insertions: list[Insertion] = []
    is_last = True
    for path, inside in reversed(list(slots.items())):
        if inside.option == EMPTY[inside.slot]:
            continue
        if is_trained(path, inside):
            is_last = False
            continue
        module, is_convolution = network.get_submodule(path), EMPTY[inside.slot] == "plain"
        insertions.append(Insertion(path, inside.option, module, inside.channels, is_convolution, is_last))
    return insertions[::-1]


def _put_plain(network: Network, plain: Network, path: str) -> None:
    """Puts the plain convolution in the place of an operator, without values."""
    like = next(network.parameters())
    network.set_submodule(path, plain.get_submodule(path).to_empty(device=like.device).to(like.dtype))


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


def _slots(architecture: Architecture) -> dict[str, _InSlot]:
    """Every open slot by the path of its module, in the order of the forward pass."""
    network, placed = build_placed(architecture, device="meta")
    paths = {id(module): path for path, module in network.named_modules()}
    sites = {block.name: block.sites for block in architecture.blocks}
    return {
        paths[id(module)]: _InSlot(
            block,
            slot,
            architecture.resolved.get(block, {}).get(slot, (EMPTY[slot], {})),
            sites[block][slot].out_channels,
        )
        for (block, slot), module in placed.items()
    }


def _slot_of(name: str, slots: Container[str]) -> str | None:
    """The path of the slot in which a tensor is; None: it belongs to the skeleton."""
    path = name
    while path:
        path = path.rpartition(".")[0]
        if path in slots:
            return path
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


def _modules(names: Sequence[str]) -> list[str]:
    """The modules of tensors, each once."""
    return list(dict.fromkeys(printable(name.rpartition(".")[0]) for name in names))


def _cut(words: Sequence[str]) -> str:
    """A list in words; a long one is cut."""
    more = f" and {len(words) - _SHOWN} more" if words[_SHOWN:] else ""
    return f"{', '.join(words[:_SHOWN])}{more}"
