"""An architecture: a skeleton in which every slot is decided."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

from search_spaces.grammar import (
    SCHEMA,
    Choice,
    Offer,
    ResolvedChoice,
    Spec,
    blocks_of,
    check_name,
    choose,
    complete,
    is_empty,
    resolve,
    sites_of,
    write_file,
    write_skeleton,
)
from search_spaces.sites import SLOTS, Block, Slot, Value
from search_spaces.skeletons import FAMILIES, Skeleton
from search_spaces.yamlfile import unknown


@dataclass(frozen=True, eq=False)
class Architecture:
    """One network: a skeleton with one option in every slot.

    Two architectures are equal, and have the same hash, exactly when their networks are equal; names are ignored.
    ``placements`` may be given in any order and with empty slots. The stored mapping has the skeleton's order and no
    empty slots.

    Raises ValueError for a name that is not letters, digits and ``. _ + -``, an unknown block, a slot that is not open
    in its block, and an option that is not possible at its site.
    """

    skeleton: Skeleton
    placements: Mapping[str, Mapping[Slot, Choice]] = field(default_factory=dict)
    name: str | None = None
    resolved: Mapping[str, Mapping[Slot, ResolvedChoice]] = field(init=False, repr=False)
    """Block -> slot -> (option, the integers that define it at that site); empty slots are left out."""

    def __post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name)
        sites = sites_of(self.skeleton)
        given = 0
        placements: dict[str, dict[Slot, Choice]] = {}
        resolved: dict[str, dict[Slot, ResolvedChoice]] = {}
        for block, slot in sites:
            if block not in self.placements or slot not in self.placements[block]:
                continue
            given += 1
            try:
                choice = complete(self.placements[block][slot])
                value = resolve(choice, sites[block, slot])
            except ValueError as error:
                raise ValueError(f"{block}.{slot}: {error}") from None
            if not is_empty(slot, choice):
                placements.setdefault(block, {})[slot] = choice
                resolved.setdefault(block, {})[slot] = value
        if given != sum(map(len, self.placements.values())):
            self._name_the_misplaced()
        object.__setattr__(self, "placements", _frozen(placements))
        object.__setattr__(self, "resolved", _frozen(resolved))

    def _name_the_misplaced(self) -> None:
        names = {block.name: block for block in blocks_of(self.skeleton)}
        for name, slots in self.placements.items():
            if name not in names:
                raise ValueError(unknown("block", name, names))
            for slot in slots:
                if slot not in names[name].sites:
                    there = [other for other in SLOTS if other in names[name].sites]
                    raise ValueError(unknown(f"slot of {name}", slot, there))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The skeleton's blocks, in the order of the forward pass."""
        return blocks_of(self.skeleton)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSON of the skeleton and ``resolved``, which together define the network."""
        resolved = {
            block: {slot: [option, dict(values)] for slot, (option, values) in slots.items()}
            for block, slots in self.resolved.items()
        }
        network = {"skeleton": dict(write_skeleton(self.skeleton)), "resolved": resolved}
        text = json.dumps(network, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return self.fingerprint == other.fingerprint if isinstance(other, Architecture) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        return Architecture.from_dict, (self.to_dict(),)

    def dump(self) -> str:
        """YAML in the one grammar, without values at their defaults. Parsing it gives the same network."""
        offers = {
            (block, slot): (Offer(choice.option, tuple((name, (value,)) for name, value in choice.params.items())),)
            for block, slots in self.placements.items()
            for slot, choice in slots.items()
        }
        return write_file(self.name, self.skeleton, offers)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dictionary in the one grammar with every parameter, for journals; `from_dict` reads it."""
        placements = {
            block: {slot: {choice.option: dict(choice.params)} for slot, choice in slots.items()}
            for block, slots in self.placements.items()
        }
        named = {} if self.name is None else {"name": self.name}
        return {"schema": SCHEMA, **named, "skeleton": self.skeleton.model_dump(mode="json"), "placements": placements}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Architecture":
        """The inverse of `to_dict`. Read files that people write with `load_architecture`: its errors explain more.

        Raises:
            ValueError: names only the first problem.
        """
        try:
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema is {data['schema']!r}; this version reads schema {SCHEMA}")
            placements = {
                block: {slot: _read_choice(written) for slot, written in slots.items()}
                for block, slots in data["placements"].items()
            }
            return cls(_read_skeleton(json.dumps(data["skeleton"])), placements, data.get("name"))
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not the dictionary of an architecture: {error!r}") from error

    @classmethod
    def from_spec(cls, spec: Spec) -> "Architecture":
        """The architecture of a checked file in which every slot is decided."""
        placements: dict[str, dict[Slot, Choice]] = {}
        for (block, slot), (offer,) in spec.offers.items():
            (choice,) = offer.choices
            placements.setdefault(block, {})[slot] = choice
        return cls(spec.skeleton, placements, spec.name)


def _frozen(nested: Mapping[str, Mapping[Slot, Any]]) -> Mapping[str, Mapping[Slot, Any]]:
    return MappingProxyType({block: MappingProxyType(slots) for block, slots in nested.items()})


@lru_cache(maxsize=256)
def _read_skeleton(text: str) -> Skeleton:
    family = json.loads(text).get("family")
    if family not in FAMILIES:
        raise ValueError(unknown("family", str(family), FAMILIES))
    return FAMILIES[family].model_validate_json(text, strict=True)


def _read_choice(written: str | Mapping[str, Mapping[str, Value]]) -> Choice:
    if isinstance(written, str):
        return _choice(written, ())
    ((option, params),) = written.items()
    return _choice(option, tuple(params.items()))


@lru_cache(maxsize=1 << 14)
def _choice(option: str, params: tuple[tuple[str, Value], ...]) -> Choice:
    return choose(option, dict(params))
