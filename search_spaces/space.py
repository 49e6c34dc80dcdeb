"""A search space: a skeleton in which some slots are a choice."""

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from search_spaces.architecture import Architecture
from search_spaces.grammar import (
    Choice,
    Offer,
    Offers,
    Spec,
    Tie,
    all_choices,
    blocks_of,
    choose,
    known_options,
    resolve,
    sites_of,
    spans,
    write_file,
)
from search_spaces.sites import EMPTY, Block, Site, Slot, Value
from search_spaces.skeletons import Skeleton
from search_spaces.yamlfile import nearest

Outcome: TypeAlias = tuple[tuple[str, tuple[tuple[str, Value], ...]], ...]
"""The resolved option at each block of a group. Equal outcomes give equal networks."""


class Trial(Protocol):
    """The part of an Optuna trial that `SearchSpace.suggest` uses."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ANN401 - Optuna's own signature
        """One of ``choices``."""


@dataclass(frozen=True)
class Group:
    """One decision: the same slot in one or more blocks that make the same choice.

    ``label`` is the name of a block or a stage, or ``*`` for the whole network; see `SearchSpace.groups`.
    """

    label: str
    slot: Slot
    blocks: tuple[str, ...]
    offers: Offers

    @cached_property
    def alternatives(self) -> tuple[Choice, ...]:
        """Every option with every combination of its parameters, in the order of the file."""
        return tuple(all_choices(self.offers))

    @property
    def name(self) -> str:
        """Name of the parameter that chooses the option: ``label/slot``."""
        return f"{self.label}/{self.slot}"

    def parameter(self, offer: Offer, name: str) -> str:
        """Name of the parameter that chooses ``name`` once ``offer`` is chosen: ``label/slot/option.name``."""
        return f"{self.name}/{offer.option}.{name}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A categorical parameter: its choices and, if it is conditional, its parent and the parent's required value."""

    choices: tuple[Value, ...]
    parent: tuple[str, Value] | None = None


@dataclass(frozen=True)
class SearchSpace:
    """The architectures that a file allows. Two spaces with the same offers are equal, however their files write them.

    ``offers`` has every open slot of every block.
    """

    skeleton: Skeleton
    name: str | None
    tie: Tie
    offers: Mapping[tuple[str, Slot], Offers]

    @classmethod
    def from_spec(cls, spec: Spec) -> "SearchSpace":
        """The space of a checked file."""
        return cls(spec.skeleton, spec.name, spec.tie, spec.offers)

    def __hash__(self) -> int:
        return hash((self.skeleton, self.name, self.tie, tuple(self.offers.values())))

    def __reduce__(self) -> tuple[Any, ...]:
        return SearchSpace, (self.skeleton, self.name, self.tie, dict(self.offers))

    # --- structure ----------------------------------------------------------------------------------------------------

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The skeleton's blocks, in the order of the forward pass."""
        return blocks_of(self.skeleton)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The independent decisions; slots with a single alternative are left out.

        Blocks are in one group if ``tie`` puts them in one unit and the file gives their slot the same offers. If a
        unit has several groups of one slot, each group is labelled by its blocks.
        """
        members: dict[tuple[str, Slot, Offers], list[str]] = {}
        stages = {block.name: block.stage for block in self.blocks}
        for (block, slot), offers in self.offers.items():
            if len(offers) > 1 or any(len(values) > 1 for _, values in offers[0].params):
                unit = {"none": block, "stage": stages[block], "network": "*"}[self.tie]
                members.setdefault((unit, slot, offers), []).append(block)
        units = [(unit, slot) for unit, slot, _ in members]
        return tuple(
            Group(
                unit if units.count((unit, slot)) == 1 else spans(self.skeleton, blocks, to="..", comma="+"),
                slot,
                tuple(blocks),
                offers,
            )
            for (unit, slot, offers), blocks in members.items()
        )

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """Every parameter that `suggest` may ask for; a parameter with a single value is never asked for."""
        found: dict[str, Parameter] = {}
        for group in self.groups:
            several = len(group.offers) > 1
            if several:
                found[group.name] = Parameter(tuple(offer.option for offer in group.offers))
            for offer in group.offers:
                for name, values in offer.params:
                    if len(values) > 1:
                        parent = (group.name, offer.option) if several else None
                        found[group.parameter(offer, name)] = Parameter(values, parent)
        return MappingProxyType(found)

    @cached_property
    def size(self) -> int:
        """The exact number of distinct architectures: alternatives that give the same network count once."""
        return math.prod(len(outcomes) for outcomes in self._outcomes)

    @cached_property
    def _outcomes(self) -> tuple[Mapping[Outcome, tuple[Choice, ...]], ...]:
        """For each group, its alternatives by their outcome."""
        found = []
        for group in self.groups:
            by_outcome: dict[Outcome, list[Choice]] = {}
            for choice in group.alternatives:
                by_outcome.setdefault(self._outcome(group, [choice] * len(group.blocks)), []).append(choice)
            found.append({outcome: tuple(alike) for outcome, alike in by_outcome.items()})
        return tuple(found)

    @cached_property
    def _alike(self) -> tuple[Mapping[Choice, tuple[Choice, ...]], ...]:
        """For each group, every alternative with all that give the same network, itself included."""
        return tuple({choice: alike for alike in outcomes.values() for choice in alike} for outcomes in self._outcomes)

    def _outcome(self, group: Group, choices: Sequence[Choice]) -> Outcome:
        """The outcome of one choice for each block of a group."""
        sites = sites_of(self.skeleton)
        resolved = (
            resolve(choice, sites[block, group.slot]) for block, choice in zip(group.blocks, choices, strict=True)
        )
        return tuple((option, tuple(values.items())) for option, values in resolved)

    @cached_property
    def _decided(self) -> dict[tuple[str, Slot], Choice]:
        """The slots with a single alternative, and that alternative."""
        grouped = {(block, group.slot) for group in self.groups for block in group.blocks}
        return {place: offers[0].choices[0] for place, offers in self.offers.items() if place not in grouped}

    def _build(self, choices: Sequence[Choice]) -> Architecture:
        """The architecture of one choice for each group."""
        placements: dict[str, dict[Slot, Choice]] = {}
        for (block, slot), choice in self._decided.items():
            placements.setdefault(block, {})[slot] = choice
        for group, choice in zip(self.groups, choices, strict=True):
            for block in group.blocks:
                placements.setdefault(block, {})[group.slot] = choice
        return Architecture(self.skeleton, placements)

    # --- walking ------------------------------------------------------------------------------------------------------

    def plain(self) -> Architecture:
        """The skeleton with every slot empty, even if it is outside the space."""
        return Architecture(self.skeleton)

    def decided(self, choose: Callable[[Group], Choice]) -> Architecture:
        """The architecture in which every group has the alternative that ``choose`` returns for it."""
        return self._build([choose(group) for group in self.groups])

    def sample(self, rng: random.Random) -> Architecture:
        """A random architecture: for every group a uniformly random option, then uniformly random parameters."""
        return self._build([rng.choice(rng.choice(group.offers).choices) for group in self.groups])

    def architectures(self) -> Iterator[Architecture]:
        """All `size` distinct architectures. Use it only for small spaces."""
        for choices in itertools.product(*([alike[0] for alike in outcomes.values()] for outcomes in self._outcomes)):
            yield self._build(choices)

    def mutate(self, architecture: Architecture, rng: random.Random) -> Architecture:
        """A neighbour: a random group changes so that the network differs; all other groups stay.

        First an option is drawn among those that can change the network, then one of the option's alternatives.

        Raises:
            ValueError: ``architecture`` is outside the space, or the space has no other architecture.
        """
        choices = self._choices(architecture)
        movable = [index for index, outcomes in enumerate(self._outcomes) if len(outcomes) > 1]
        if not movable:
            raise ValueError("the space holds a single architecture; nothing can be changed")
        index = rng.choice(movable)
        same = self._alike[index][choices[index]]
        others: dict[str, list[Choice]] = {}
        for choice in self.groups[index].alternatives:
            if choice not in same:
                others.setdefault(choice.option, []).append(choice)
        choices[index] = rng.choice(others[rng.choice(list(others))])
        return self._build(choices)

    def suggest(self, trial: Trial) -> Architecture:
        """The architecture that ``trial`` proposes. Asks the trial only for `parameters` that are open."""
        return self._decode(trial.suggest_categorical)

    def decode(self, params: Mapping[str, Value]) -> Architecture:
        """The architecture of an assignment such as a finished trial's ``params``.

        Raises:
            ValueError: a parameter is missing or not open, or has a value that the space does not offer.
        """
        used: set[str] = set()

        def ask(name: str, values: Sequence[Value]) -> Value:
            used.add(name)
            if name not in params:
                raise ValueError(f"parameter {name} is missing; choices: {', '.join(map(str, values))}")
            if params[name] not in values:
                raise ValueError(f"parameter {name} is {params[name]!r}; choices: {', '.join(map(str, values))}")
            return params[name]

        architecture = self._decode(ask)
        for name in params:
            if name not in used:
                why = (
                    "not open here" if name in self.parameters else f"not in this space{nearest(name, self.parameters)}"
                )
                raise ValueError(f"parameter {name} is {why}")
        return architecture

    def _decode(self, ask: "_Ask") -> Architecture:
        choices = []
        for group in self.groups:
            offer = group.offers[0]
            if len(group.offers) > 1:
                option = ask(group.name, [offer.option for offer in group.offers])
                offer = next(offer for offer in group.offers if offer.option == option)
            params = {
                name: ask(group.parameter(offer, name), values) if len(values) > 1 else values[0]
                for name, values in offer.params
            }
            choices.append(Choice(offer.option, params))
        return self._build(choices)

    def encode(self, architecture: Architecture) -> dict[str, Value]:
        """The assignment of `parameters` that gives ``architecture``: ``decode(encode(a)) == a``.

        Raises:
            ValueError: ``architecture`` is outside the space.
        """
        params: dict[str, Value] = {}
        for group, choice in zip(self.groups, self._choices(architecture), strict=True):
            if len(group.offers) > 1:
                params[group.name] = choice.option
            offer = next(offer for offer in group.offers if offer.option == choice.option)
            params |= {
                group.parameter(offer, name): choice.params[name] for name, values in offer.params if len(values) > 1
            }
        return params

    def contains(self, architecture: Architecture) -> bool:
        """Whether the space has this network."""
        try:
            self._choices(architecture)
        except _OutsideError:
            return False
        return True

    def _choices(self, architecture: Architecture) -> list[Choice]:
        """One choice for each group; together they give ``architecture``. Raises `_OutsideError`."""
        if architecture.skeleton != self.skeleton:
            raise _OutsideError("the skeletons differ")
        sites = sites_of(self.skeleton)
        for (block, slot), decided in self._decided.items():
            held = _held(architecture, block, slot)
            if held != decided and resolve(held, sites[block, slot]) != resolve(decided, sites[block, slot]):
                raise _OutsideError(f"{slot} of {block} is {held.option}; the space has {decided.option} there")
        choices = []
        for group, outcomes, alike in zip(self.groups, self._outcomes, self._alike, strict=True):
            first, *others = (_held(architecture, block, group.slot) for block in group.blocks)
            if first in alike and all(other == first for other in others):
                choices.append(first)
                continue
            # Choices with other parameters may give the same network.
            outcome = self._outcome(group, (first, *others))
            if outcome not in outcomes:
                where = f"{group.slot} of {spans(self.skeleton, group.blocks)}"
                raise _OutsideError(f"{where} holds none of the space's alternatives")
            choices.append(outcomes[outcome][0])
        return choices

    # --- baselines ----------------------------------------------------------------------------------------------------

    def baselines(self) -> dict[str, Architecture]:
        """The baselines, which papers place by a fixed rule: ``plain``, ``se``, ``cbam``, ``aa``, ``aw``.

        SE and CBAM refine every block. AW replaces every convolution that it can. AA does so in all stages but the
        first (Bello et al. 2019, section 4.2). A baseline uses the first parameters that the space lists for the
        option, or else the option's defaults. Sites where these are impossible stay empty. A baseline without any site
        is left out. Baselines may lie outside the space.
        """
        found = {"plain": self.plain()}
        for option, slot in _BASELINES.items():
            if option in known_options():
                placements = self._everywhere(option, slot, skip_first_stage=option == "aa")
                if placements:
                    found[option] = Architecture(self.skeleton, placements)
        return found

    def _everywhere(self, option: str, slot: Slot, *, skip_first_stage: bool) -> dict[str, dict[Slot, Choice]]:
        sites = {block: site for (block, other), site in sites_of(self.skeleton).items() if other == slot}
        stages = {block.name: block.stage for block in self.blocks if block.name in sites}
        first = next(iter(stages.values()), None)
        anywhere = [choice for offers in self.offers.values() for choice in _of(option, offers)]
        placements: dict[str, dict[Slot, Choice]] = {}
        for block, site in sites.items():
            if skip_first_stage and stages[block] == first and len(set(stages.values())) > 1:
                continue
            for choice in (*_of(option, self.offers[block, slot]), *anywhere, choose(option)):
                if _stands(choice, site):
                    placements[block] = {slot: choice}
                    break
        return placements

    def dump(self) -> str:
        """YAML in the one grammar, without values at their defaults. Parsing it gives an equal space."""
        return write_file(self.name, self.skeleton, self.offers, tie=self.tie)


_BASELINES: Mapping[str, Slot] = MappingProxyType({"se": "refine", "cbam": "refine", "aa": "conv", "aw": "conv"})


class _OutsideError(ValueError):
    def __init__(self, why: str) -> None:
        super().__init__(f"the architecture is not in the space: {why}")


class _Ask(Protocol):
    def __call__(self, name: str, values: Sequence[Value], /) -> Value: ...


def _of(option: str, offers: Offers) -> tuple[Choice, ...]:
    return tuple(choice for choice in all_choices(offers) if choice.option == option)


def _stands(choice: Choice, site: Site) -> bool:
    try:
        resolve(choice, site)
    except ValueError:
        return False
    return True


_EMPTY_CHOICE = MappingProxyType({slot: Choice(option) for slot, option in EMPTY.items()})


def _held(architecture: Architecture, block: str, slot: Slot) -> Choice:
    return architecture.placements.get(block, {}).get(slot) or _EMPTY_CHOICE[slot]
