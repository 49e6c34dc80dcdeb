"""The one grammar of spaces and architectures: skeleton, placements, choices.

A placement maps a glob over block names to slots, and each slot to options: a scalar fixes the option, a list is a
choice. Later rules override earlier ones. `parse` turns a file into a `Spec`, which has the offers of every open slot,
or raises `SpaceError` with all problems. `write_file` is the inverse.
"""

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache, cached_property, lru_cache
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from search_spaces.options import Option, Param, installed, options
from search_spaces.options import resolve as resolve_option
from search_spaces.sites import EMPTY, SLOTS, Block, Site, Slot, Value
from search_spaces.skeletons import FAMILIES, Skeleton
from search_spaces.yamlfile import (
    Document,
    FileError,
    KeyPath,
    Problem,
    check,
    dotted,
    nearest,
    show,
    unknown,
    write_yaml,
)

SCHEMA = 1
"""Version of the grammar, the key ``schema`` of every file."""

MAX_ALTERNATIVES = 10_000
"""Largest number of alternatives in one slot. Each is checked at every block, and more of them are surely a mistake."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")

Tie: TypeAlias = Literal["none", "stage", "network"]
"""Which blocks make the same choice."""

ResolvedChoice: TypeAlias = tuple[str, Mapping[str, Value]]
"""An option's name and the integers that define it at a site."""


class SpaceError(FileError):
    """A space or an architecture cannot be used; lists all its problems."""


# --- values -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """An option with all its parameters, in the option's order. Hashable. `choose` fills in defaults."""

    option: str
    params: Mapping[str, Value] = field(default_factory=dict)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))
        # The hash is stored because choices are looked up some hundred times for every architecture.
        object.__setattr__(self, "_hash", hash((self.option, frozenset(self.params.items()))))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type["Choice"], tuple[str, dict[str, Value]]]:
        return Choice, (self.option, dict(self.params))  # a proxy cannot be pickled


@dataclass(frozen=True)
class Offer:
    """One option of a slot, with the allowed values of each parameter. Has all parameters, in the option's order."""

    option: str
    params: tuple[tuple[str, tuple[Value, ...]], ...] = ()

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """Every combination of the parameters."""
        names = [name for name, _ in self.params]
        values = itertools.product(*(values for _, values in self.params))
        return tuple(Choice(self.option, dict(zip(names, combination, strict=True))) for combination in values)


Offers: TypeAlias = tuple[Offer, ...]
"""The options of a slot, in the order of the file. A single offer without lists of values leaves nothing to choose."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A checked file. ``offers`` has every open slot of every block, in the order of `sites_of`."""

    skeleton: Skeleton
    name: str | None
    tie: Tie
    offers: Mapping[tuple[str, Slot], Offers]


@lru_cache(maxsize=256)
def blocks_of(skeleton: Skeleton) -> tuple[Block, ...]:
    """The blocks of a skeleton, computed once."""
    return skeleton.blocks()


@lru_cache(maxsize=256)
def sites_of(skeleton: Skeleton) -> Mapping[tuple[str, Slot], Site]:
    """Every open slot of a skeleton, block by block in the order of `SLOTS`."""
    return MappingProxyType(
        {
            (block.name, slot): block.sites[slot]
            for block in blocks_of(skeleton)
            for slot in SLOTS
            if slot in block.sites
        }
    )


@cache
def known_options() -> Mapping[str, Option]:
    """`options()`, computed once: the installed plug-ins do not change while a process runs."""
    return options()


def choose(option: str, params: Mapping[str, Value] = MappingProxyType({})) -> Choice:
    """A `Choice` with the defaults filled in.

    Raises:
        ValueError: the option or a parameter is unknown, or a value is out of range.
    """
    known = known_options()
    if option not in known:
        raise ValueError(_unknown_option(option, known))
    declared = known[option].params
    for name, value in params.items():
        if name not in declared:
            raise ValueError(unknown(f"parameter of {option}", name, declared))
        if not declared[name].allows(value):
            raise ValueError(f"{option}.{name} must be {declared[name].allowed}, not {show(value)}")
    return Choice(option, {name: _typed(param, params.get(name, param.default)) for name, param in declared.items()})


def _unknown_option(name: str, fitting: Iterable[str]) -> str:
    """That there is no such option, and which plug-in may have had it."""
    broken = installed().broken
    if name in broken:
        return f"{show(name)} is of a plug-in that cannot be used: {broken[name]}"
    left_out = "".join(f"; left out: {what}" for what in broken.values())
    return f"{unknown('option', name, fitting)}{left_out}"


def complete(choice: Choice) -> Choice:
    """``choice`` with the defaults filled in, in case it was not made by `choose`."""
    option = known_options().get(choice.option)
    if option is not None and len(choice.params) == len(option.params):
        return choice
    return choose(choice.option, choice.params)


def _typed(param: Param, value: Value) -> Value:
    """Converts ``kappa: 1`` to 1.0, so that equal choices are also written alike."""
    if isinstance(param.default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


@lru_cache(maxsize=1 << 16)
def resolve(choice: Choice, site: Site) -> ResolvedChoice:
    """The integers that define ``choice`` at ``site``. Raises ValueError if the option is not possible there."""
    option = known_options()[choice.option]
    return choice.option, MappingProxyType(dict(resolve_option(option, choice.params, site)))


def is_empty(slot: Slot, choice: Choice) -> bool:
    """Whether ``choice`` leaves the skeleton as it is."""
    return choice.option == EMPTY[slot]


# --- reading ----------------------------------------------------------------------------------------------------------


def check_name(name: str) -> None:
    """Raises ValueError for a name that cannot be a file name."""
    if not NAME.fullmatch(name):
        raise ValueError(f"must be letters, digits and . _ + - (files are named after it), not {show(name)}")


class _File(BaseModel):
    """The top level of a file. `parse` checks the contents of ``skeleton`` and ``placements``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = Field(alias="schema", description=f"the version of the grammar, {SCHEMA}")
    name: str | None = None
    skeleton: dict[str, Any] = Field(description="a family and its fields, {family: resnet, depth: 50, ...}")
    placements: dict[str, Any] = {}
    tie: Tie = "none"

    @field_validator("name")
    @classmethod
    def _names_a_file(cls, name: str | None) -> str | None:
        if name is not None:
            check_name(name)
        return name


def parse(document: Document, *, decided: bool = False) -> Spec:
    """The space that a document describes. With ``decided`` the document must be an architecture: nothing to choose.

    Raises:
        SpaceError: lists all problems of the document.
    """
    file, problems = check(document, _File)
    skeleton: Skeleton | None = None
    written: list[_Rule] = []
    if document.readable and isinstance(document.data, dict):
        if isinstance(document.get(("skeleton",)), dict):
            skeleton, found = _read_skeleton(document)
            problems += found
        placements = document.get(("placements",))
        if isinstance(placements, dict):
            written = _PlacementReader(document, problems).rules(placements, skeleton)
    offers: dict[tuple[str, Slot], Offers] = {}
    if skeleton is not None:
        winners = {(block, rule.slot): rule for rule in written for block in rule.blocks}
        sites = sites_of(skeleton)
        offers = {place: winners[place].offers if place in winners else _empty(place[1]) for place in sites}
        for rule in written:
            in_force = [block for block in rule.blocks if winners[block, rule.slot] is rule]
            problems += _impossible(document, skeleton, rule, in_force)
            if decided and in_force:
                problems += _undecided(document, rule)
    problems = [*document.problems, *problems]
    if problems or file is None or skeleton is None:
        raise SpaceError(problems)
    return Spec(skeleton, file.name, file.tie, MappingProxyType(offers))


def _read_skeleton(document: Document) -> tuple[Skeleton | None, list[Problem]]:
    at: KeyPath = ("skeleton", "family")
    family = document.get(at)
    if family is None:
        return None, [document.problem(at, f"is missing: one of {', '.join(FAMILIES)}")]
    if not isinstance(family, str) or family not in FAMILIES:
        name = family if isinstance(family, str) else show(family)
        return None, [document.problem(at, unknown("family", name, FAMILIES))]
    skeleton, problems = check(document, FAMILIES[family], at=("skeleton",))
    return skeleton, problems


@dataclass(frozen=True, slots=True)
class _Rule:
    """One slot of one placement."""

    at: KeyPath
    slot: Slot
    offers: Offers
    """Empty if they could not be read. The rule still overrides earlier ones, which are then not checked."""
    decided: bool
    """Whether the option was written as a scalar."""
    blocks: tuple[str, ...]
    """The matched blocks in which the slot is open."""


@dataclass(frozen=True, slots=True)
class _PlacementReader:
    document: Document
    problems: list[Problem]

    def rules(self, placements: Mapping[str, Any], skeleton: Skeleton | None) -> list[_Rule]:
        rules = []
        for glob, slots in placements.items():
            at: KeyPath = ("placements", glob)
            matched = self.matched(at, glob, skeleton)
            if not isinstance(slots, dict):
                self.problem(at, f"must be a mapping of slots ({', '.join(SLOTS)}) to options, not {show(slots)}")
                continue
            for slot, written in slots.items():
                if slot not in SLOTS:
                    self.problem((*at, slot), unknown("slot", slot, SLOTS))
                    continue
                offers = self.offers((*at, slot), slot, written)
                names = tuple(block.name for block in matched if slot in block.sites)
                if skeleton is not None and matched and not names:
                    open_slots = [name for name in SLOTS if any(name in block.sites for block in matched)]
                    self.problem(
                        (*at, slot),
                        f"slot {slot} is not open at {spans(skeleton, [block.name for block in matched])}; "
                        f"open there: {', '.join(open_slots)}",
                    )
                rules.append(_Rule((*at, slot), slot, offers, not isinstance(written, list), names))
        return rules

    def matched(self, at: KeyPath, glob: str, skeleton: Skeleton | None) -> list[Block]:
        if skeleton is None:
            return []
        blocks = blocks_of(skeleton)
        matched = [block for block in blocks if fnmatchcase(block.name, glob)]
        if not matched:
            is_stage = any(fnmatchcase(block.stage, glob) for block in blocks)
            hint = f" (did you mean '{glob}.*'?)" if is_stage else ""
            everything = spans(skeleton, [block.name for block in blocks])
            self.problem(at, f"matches no block{hint}; blocks: {everything}")
        return matched

    def offers(self, at: KeyPath, slot: Slot, written: object) -> Offers:
        """The offers of one slot; empty if any of them has a problem."""
        items = written if isinstance(written, list) else [written]
        if not items:
            self.problem(at, f"is an empty list; write {EMPTY[slot]} to leave the slot as it is")
            return ()
        places = [(*at, index) for index in range(len(items))] if isinstance(written, list) else [at]
        read = [self.offer(place, slot, item, at) for place, item in zip(places, items, strict=True)]
        offers = tuple(offer for offer in read if offer is not None)
        for index, offer in enumerate(read):
            if offer is not None and offer.option in [other.option for other in read[:index] if other is not None]:
                message = "is listed twice; list it once, with lists of values for its parameters"
                self.problem(places[index], message, key=f"{dotted(at)}.{offer.option}")
                return ()
        count = sum(math.prod(len(values) for _, values in offer.params) for offer in offers)
        if count > MAX_ALTERNATIVES:
            self.problem(at, f"has {count} alternatives; at most {MAX_ALTERNATIVES}: list fewer values")
            return ()
        return offers if len(offers) == len(read) else ()

    def offer(self, at: KeyPath, slot: Slot, written: object, slot_at: KeyPath) -> Offer | None:
        """One option, as ``name`` or as ``{name: {parameter: value or list}}``."""
        key = dotted(slot_at)
        params: Any = {}
        name = written
        if isinstance(written, dict):
            if len(written) != 1:
                names = ", ".join(written) or "nothing"
                self.problem(at, f"must be one option, as name or {{name: {{parameters}}}}, not {{{names}}}", key=key)
                return None
            ((name, params),) = written.items()
        elif written is None:
            self.problem(at, f"is empty; write {EMPTY[slot]} to leave the slot as it is", key=key)
            return None
        if not isinstance(name, str):
            self.problem(at, f"must be the name of an option, not {show(name)}", key=key)
            return None
        known = known_options()
        fitting = [option.name for option in known.values() if slot in option.slots]
        if name not in known:
            self.problem(at, _unknown_option(name, fitting), key=key)
            return None
        option = known[name]
        if slot not in option.slots:
            fits = ", ".join(other for other in SLOTS if other in option.slots)
            self.problem(at, f"{name} does not fit slot {slot}, it fits {fits}; allowed: {', '.join(fitting)}", key=key)
            return None
        key = f"{key}.{name}"
        if params is None:
            params = {}
        if not isinstance(params, dict):
            self.problem(at, f"must be a mapping of parameters to values, not {show(params)}", key=key)
            return None
        values_at = (*at, name)
        good = True
        for parameter in params:
            if parameter not in option.params:
                message = unknown("parameter", parameter, option.params) if option.params else "has no parameters"
                self.problem((*values_at, parameter), message, key=f"{key}.{parameter}" if option.params else key)
                good = False
        complete: list[tuple[str, tuple[Value, ...]]] = []
        for parameter, param in option.params.items():
            if parameter not in params:
                complete.append((parameter, (param.default,)))
                continue
            values = self.values((*values_at, parameter), param, params[parameter], f"{key}.{parameter}")
            if values is None:
                good = False
            else:
                complete.append((parameter, values))
        return Offer(name, tuple(complete)) if good else None

    def values(self, at: KeyPath, param: Param, written: object, key: str) -> tuple[Value, ...] | None:
        """The values of one parameter; None if any of them is wrong."""
        items = written if isinstance(written, list) else [written]
        if not items:
            self.problem(at, f"is an empty list; must be {param.allowed}", key=key)
            return None
        good = True
        values: list[Value] = []
        for index, item in enumerate(items):
            place = (*at, index) if isinstance(written, list) else at
            if not param.allows(item):
                near = nearest(item, param.choices) if isinstance(item, str) else ""
                self.problem(place, f"must be {param.allowed}, not {show(item)}{near}", key=key)
                good = False
                continue
            value = _typed(param, item)
            if value in values:
                self.problem(place, f"{show(item)} is listed twice", key=key)
                good = False
            values.append(value)
        return tuple(values) if good else None

    def problem(self, at: KeyPath, message: str, *, key: str | None = None) -> None:
        self.problems.append(self.document.problem(at, message, key=key))


def _empty(slot: Slot) -> Offers:
    return (Offer(EMPTY[slot]),)


def _impossible(document: Document, skeleton: Skeleton, rule: _Rule, blocks: Sequence[str]) -> Iterator[Problem]:
    """One problem for each option of a rule that is impossible in some of ``blocks``, where the rule is in force."""
    for index, offer in enumerate(rule.offers):
        failures: list[tuple[str, Choice, str]] = []
        for block in blocks:
            for choice in offer.choices:
                try:
                    resolve(choice, sites_of(skeleton)[block, rule.slot])
                except ValueError as error:
                    failures.append((block, choice, str(error)))
                    break
        if not failures:
            continue
        block, choice, message = failures[0]
        others = spans(skeleton, [name for name, _, _ in failures[1:]])
        also = f" (and {others})" if others else ""
        chosen = ", ".join(f"{name} {show(choice.params[name])}" for name, values in offer.params if len(values) > 1)
        when = f" with {chosen}" if chosen else ""
        at = rule.at if rule.decided else (*rule.at, index)
        key = f"{dotted(rule.at)}.{offer.option}"
        narrow = "" if len(rule.blocks) == 1 else "; or narrow the glob"
        yield document.problem(at, f"at {block}{also}{when}: {message}{narrow}", key=key)


def _undecided(document: Document, rule: _Rule) -> Iterator[Problem]:
    """A problem for each choice that a rule of an architecture leaves open."""
    if len(rule.offers) > 1:
        names = ", ".join(offer.option for offer in rule.offers)
        yield document.problem(rule.at, f"is still a choice ({names}); an architecture has one option in every slot")
        return
    for offer in rule.offers:
        at = (*rule.at, offer.option) if rule.decided else (*rule.at, 0, offer.option)
        for name, values in (pair for pair in offer.params if len(pair[1]) > 1):
            key = f"{dotted(rule.at)}.{offer.option}.{name}"
            listed = ", ".join(map(show, values))
            message = f"is still a choice ({listed}); an architecture has one value for every parameter"
            yield document.problem((*at, name), message, key=key)


def spans(skeleton: Skeleton, names: Iterable[str], *, to: str = " to ", comma: str = ", ") -> str:
    """Block names in short: three or more neighbours in a stage are written ``first to last``."""
    wanted = set(names)
    parts = []
    for _, stage in itertools.groupby(blocks_of(skeleton), key=lambda block: block.stage):
        for is_in, run in itertools.groupby(stage, key=lambda block: block.name in wanted):
            if is_in:
                found = [block.name for block in run]
                parts += found if len(found) < 3 else [f"{found[0]}{to}{found[-1]}"]
    return comma.join(parts)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_file(
    name: str | None, skeleton: Skeleton, offers: Mapping[tuple[str, Slot], Offers], *, tie: Tie | None = None
) -> str:
    """The file of a space, or, without ``tie``, of an architecture."""
    content: dict[str, Any] = {"schema": SCHEMA}
    if name is not None:
        content["name"] = name
    content |= {"skeleton": dict(write_skeleton(skeleton)), "placements": write_placements(skeleton, offers)}
    if tie is not None:
        content["tie"] = tie
    return write_yaml(content)


def write_placements(skeleton: Skeleton, offers: Mapping[tuple[str, Slot], Offers]) -> dict[str, dict[str, Any]]:
    """``placements`` that give ``offers``: first what most blocks have, then stages, then single blocks.

    Parameters at their default are left out. A default never changes within a version of the grammar.
    """
    sites = sites_of(skeleton)
    blocks = blocks_of(skeleton)
    current = {place: _empty(place[1]) for place in sites}
    wanted = {place: offers.get(place, current[place]) for place in sites}
    globs = {"*": [block.name for block in blocks]}
    for stage in dict.fromkeys(block.stage for block in blocks):
        in_stage = [block.name for block in blocks if block.stage == stage]
        # A glob can stand for a stage only if it matches exactly the blocks of that stage.
        if [block.name for block in blocks if fnmatchcase(block.name, f"{stage}.*")] == in_stage:
            globs[f"{stage}.*"] = in_stage
    globs |= {block.name: [block.name] for block in blocks}
    written: dict[str, dict[str, Any]] = {}
    for glob, names in globs.items():
        for slot in SLOTS:
            places: list[tuple[str, Slot]] = [(name, slot) for name in names if (name, slot) in sites]
            if not places or all(current[place] == wanted[place] for place in places):
                continue
            most, count = Counter(wanted[place] for place in places).most_common(1)[0]
            if 2 * count <= len(places) or all(current[place] == most for place in places):
                continue  # narrower globs write the rest
            current |= dict.fromkeys(places, most)
            written.setdefault(glob, {})[slot] = _write_offers(most)
    return written


def _write_offers(offers: Offers) -> object:
    items = [_write_offer(offer) for offer in offers]
    return items[0] if len(items) == 1 else items


def _write_offer(offer: Offer) -> object:
    declared = known_options()[offer.option].params
    params = {
        name: values[0] if len(values) == 1 else list(values)
        for name, values in offer.params
        if values != (declared[name].default,)
    }
    return {offer.option: params} if params else offer.option


@lru_cache(maxsize=256)
def write_skeleton(skeleton: Skeleton) -> Mapping[str, Any]:
    """A skeleton without the fields that follow from the others.

    So the result, and with it every fingerprint, stays the same when a family gains a field with a default.
    """
    fields = skeleton.model_dump(mode="json")
    for name in [name for name in fields if name != "family"]:
        # A default may depend on other fields (a ResNet's width on its depth), so we ask the family.
        rest = {other: value for other, value in fields.items() if other != name}
        try:
            follows = type(skeleton).model_validate_json(json.dumps(rest), strict=True) == skeleton
        except ValidationError:
            follows = False
        if follows:
            fields = rest
    return MappingProxyType(fields)


def all_choices(offers: Offers) -> Iterator[Choice]:
    """Every alternative of a slot."""
    return itertools.chain.from_iterable(offer.choices for offer in offers)
