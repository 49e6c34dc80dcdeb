"""Tests the grammar with its own small table of options, so that whole error messages can be compared."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from search_spaces import grammar
from search_spaces.architecture import Architecture
from search_spaces.files import load_architecture, load_space, parse_architecture, parse_space
from search_spaces.grammar import Choice, Offer, SpaceError, choose, resolve, spans, write_placements
from search_spaces.options import Option, Param
from search_spaces.sites import Block, Site, Slot, Value
from search_spaces.skeletons import Skeleton
from search_spaces.yamlfile import read_yaml, write_yaml


class Toy(Skeleton):
    """Two blocks of 8 channels with a second convolution, three of 16 without."""

    family: Literal["toy"] = "toy"
    width: int = Field(default=8, ge=1, description="channels of stage a")

    def blocks(self) -> tuple[Block, ...]:
        return tuple(
            Block(f"{stage}.{index}", stage, _sites(self.width * factor, second=stage == "a"))
            for stage, factor, length in (("a", 1, 2), ("b", 2, 3))
            for index in range(length)
        )


def _sites(channels: int, *, second: bool) -> dict[Slot, Site]:
    slots: list[Slot] = ["conv", *(["conv2"] if second else []), "refine", "after"]  # type: ignore[list-item]
    return {slot: Site(slot, channels, channels, 8, kernel_size=3 if "conv" in slot else 1) for slot in slots}


def _keep(params: Mapping[str, Value], _site: Site) -> Mapping[str, Value]:
    return params


def _heads(params: Mapping[str, Value], site: Site) -> Mapping[str, Value]:
    d_k = int(float(params["kappa"]) * site.out_channels)
    if d_k == 0 or d_k % int(params["heads"]):
        raise ValueError(f"heads {params['heads']} do not divide d_k {d_k}: choose another kappa")
    return {"d_k": d_k, "heads": params["heads"], "position": params["position"]}


_CONV = frozenset[Slot]({"conv", "conv2"})
_MAP = frozenset[Slot]({"refine", "after"})
OPTIONS = {
    option.name: option
    for option in (
        Option("plain", _CONV, "", lambda params, site: {}),
        Option("none", _MAP, "", lambda params, site: {}),
        Option("gate", _MAP, "", _keep, {"reduction": Param(4, low=1, high=8), "bias": Param(True)}),
        Option(
            "attend",
            _CONV,
            "",
            _heads,
            {
                "kappa": Param(0.5, low=0, high=1, above_low=True),
                "heads": Param(2, low=1),
                "position": Param("none", choices=("none", "relative")),
            },
        ),
        Option("context", frozenset[Slot]({"after"}), "", _keep),
    )
}


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(grammar, "known_options", lambda: OPTIONS)
    monkeypatch.setattr(grammar, "FAMILIES", {"toy": Toy})
    resolve.cache_clear()
    yield
    resolve.cache_clear()


TOY = Toy(image_size=8, num_classes=4)
HEAD = "schema: 1\nskeleton: {family: toy, image_size: 8, num_classes: 4}\n"  # placements begin in line 3
BLOCKS = "a.0, a.1, b.0 to b.2"


def space_of(placements: str, tie: str = "none") -> grammar.Spec:
    return grammar.parse(read_yaml(f"{HEAD}placements:\n{placements}tie: {tie}\n"))


# --- what is wrong ----------------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[str, str]] = {
    "unknown option": (
        "placements: {'*': {refine: [none, gat]}}",
        "f:3: placements.*.refine: unknown option 'gat' (did you mean 'gate'?); allowed: none, gate",
    ),
    "option that is like no other": (
        "placements: {'*': {after: transformer}}",
        "f:3: placements.*.after: unknown option 'transformer'; allowed: none, gate, context",
    ),
    "no is text": (
        "placements: {'*': {refine: no}}",
        "f:3: placements.*.refine: unknown option 'no' (did you mean 'none'?); allowed: none, gate",
    ),
    "option in a slot that it does not fit": (
        "placements: {'*': {conv: gate}}",
        "f:3: placements.*.conv: gate does not fit slot conv, it fits refine, after; allowed: plain, attend",
    ),
    "parameter out of range": (
        "placements: {'*': {conv: {attend: {kappa: 1.5}}}}",
        "f:3: placements.*.conv.attend.kappa: must be a number above 0 and at most 1, not 1.5",
    ),
    "parameter below an open bound": (
        "placements: {'*': {conv: {attend: {kappa: 0}}}}",
        "f:3: placements.*.conv.attend.kappa: must be a number above 0 and at most 1, not 0",
    ),
    "not a number": (
        "placements: {'*': {conv: {attend: {kappa: .nan}}}}",
        "f:3: placements.*.conv.attend.kappa: must be a number above 0 and at most 1, not nan",
    ),
    "values in a list": (
        "placements:\n  '*':\n    refine:\n      gate:\n        reduction:\n        - 4\n        - 9\n        - x\n",
        "f:9: placements.*.refine.gate.reduction: must be an integer at least 1 and at most 8, not 9\n"
        "f:10: placements.*.refine.gate.reduction: must be an integer at least 1 and at most 8, not 'x'",
    ),
    "number in quotes": (
        "placements: {'*': {refine: {gate: {reduction: '4'}}}}",
        "f:3: placements.*.refine.gate.reduction: must be an integer at least 1 and at most 8, not '4'",
    ),
    "yes is no bool": (
        "placements: {'*': {refine: {gate: {bias: yes}}}}",
        "f:3: placements.*.refine.gate.bias: must be true or false, not 'yes'",
    ),
    "bool is no number": (
        "placements: {'*': {refine: {gate: {reduction: true}}}}",
        "f:3: placements.*.refine.gate.reduction: must be an integer at least 1 and at most 8, not true",
    ),
    "fraction for an integer": (
        "placements: {'*': {conv: {attend: {heads: 1.5}}}}",
        "f:3: placements.*.conv.attend.heads: must be an integer at least 1, not 1.5",
    ),
    "word that is near another": (
        "placements: {'*': {conv: {attend: {position: relativ}}}}",
        "f:3: placements.*.conv.attend.position: must be one of none, relative, "
        "not 'relativ' (did you mean 'relative'?)",
    ),
    "mapping for a value": (
        "placements: {'*': {conv: {attend: {position: {x: 1}}}}}",
        "f:3: placements.*.conv.attend.position: must be one of none, relative, not a mapping",
    ),
    "unknown parameter": (
        "placements: {'*': {conv: {attend: {head: 2}}}}",
        "f:3: placements.*.conv.attend.head: unknown parameter 'head' (did you mean 'heads'?); "
        "allowed: kappa, heads, position",
    ),
    "parameter of an option that has none": (
        "placements: {'*': {conv: {plain: {x: 1}}}}",
        "f:3: placements.*.conv.plain: has no parameters",
    ),
    "parameters that are no mapping": (
        "placements: {'*': {refine: {gate: 4}}}",
        "f:3: placements.*.refine.gate: must be a mapping of parameters to values, not 4",
    ),
    "value listed twice": (
        "placements: {'*': {conv: {attend: {kappa: [0.5, 1, 1.0]}}}}",
        "f:3: placements.*.conv.attend.kappa: 1.0 is listed twice",
    ),
    "empty list of values": (
        "placements: {'*': {refine: {gate: {reduction: []}}}}",
        "f:3: placements.*.refine.gate.reduction: is an empty list; must be an integer at least 1 and at most 8",
    ),
    "option listed twice": (
        "placements:\n  '*':\n    refine:\n      - gate\n      - none\n      - gate: {reduction: 2}\n",
        "f:8: placements.*.refine.gate: is listed twice; list it once, with lists of values for its parameters",
    ),
    "empty list of options": (
        "placements: {'*': {refine: []}}",
        "f:3: placements.*.refine: is an empty list; write none to leave the slot as it is",
    ),
    "nothing for an option": (
        "placements: {'*': {conv: }}",
        "f:3: placements.*.conv: is empty; write plain to leave the slot as it is",
    ),
    "number for an option": (
        "placements: {'*': {refine: 3}}",
        "f:3: placements.*.refine: must be the name of an option, not 3",
    ),
    "list in a list": (
        "placements: {'*': {refine: [none, [gate]]}}",
        "f:3: placements.*.refine: must be the name of an option, not a list",
    ),
    "two options in one item": (
        "placements: {'*': {refine: {gate: {}, none: {}}}}",
        "f:3: placements.*.refine: must be one option, as name or {name: {parameters}}, not {gate, none}",
    ),
    "too many alternatives": (
        "placements:\n  '*':\n    conv:\n      attend:\n"
        f"        kappa: {[i / 99 for i in range(1, 99)]}\n        heads: {[*range(1, 104)]}\n",
        "f:5: placements.*.conv: has 10094 alternatives; at most 10000: list fewer values",
    ),
    "cannot stand at one block": (
        "placements: {'a.1': {conv: {attend: {heads: 3}}}}",
        "f:3: placements.a.1.conv.attend: at a.1: heads 3 do not divide d_k 4: choose another kappa",
    ),
    "cannot stand at some blocks": (
        "placements:\n  '*':\n    conv:\n      - plain\n      - attend: {kappa: [1, 0.25], heads: [2, 4]}\n",
        "f:7: placements.*.conv.attend: at a.0 (and a.1) with kappa 0.25, heads 4: "
        "heads 4 do not divide d_k 2: choose another kappa; or narrow the glob",
    ),
    "glob that matches nothing": (
        "placements: {'c.*': {refine: gate}}",
        f"f:3: placements.c.*: matches no block; blocks: {BLOCKS}",
    ),
    "glob of stages": (
        "placements: {'[ab]': {refine: gate}}",
        f"f:3: placements.[ab]: matches no block (did you mean '[ab].*'?); blocks: {BLOCKS}",
    ),
    "slot that is not open": (
        "placements: {'b.*': {conv2: attend}}",
        "f:3: placements.b.*.conv2: slot conv2 is not open at b.0 to b.2; open there: conv, refine, after",
    ),
    "unknown slot": (
        "placements: {'*': {refin: gate}}",
        "f:3: placements.*.refin: unknown slot 'refin' (did you mean 'refine'?); allowed: conv, conv2, refine, after",
    ),
    "option without a slot": (
        "placements: {'*': gate}",
        "f:3: placements.*: must be a mapping of slots (conv, conv2, refine, after) to options, not 'gate'",
    ),
    "placements that are a list": (
        "placements: [gate]",
        "f:3: placements: must be a mapping (key: value), not a list",
    ),
    "placement written twice": (
        "placements:\n  '*': {refine: gate}\n  '*': {refine: none}\n",
        "f:5: placements.*: this key is written twice; it is first written in line 4; keep one",
    ),
    "star without quotes": (
        "placements:\n  *: {refine: gate}\n",
        'f:4: a name that begins with * must be quoted: "*"',
    ),
    "tag": (
        "name: !!python/name:os.system x\n",
        "f:3: name: tags are not allowed; remove !!python/name:os.system",
    ),
    "unknown key": (
        "placement: {'*': {refine: gate}}",
        "f:3: placement: unknown key 'placement' (did you mean 'placements'?); "
        "allowed: schema, name, skeleton, placements, tie",
    ),
    "unknown tie": (
        "tie: stages",
        "f:3: tie: must be 'none', 'stage' or 'network', not 'stages' (did you mean 'stage'?)",
    ),
    "name that leaves the folder": (
        "name: ../x",
        "f:3: name: must be letters, digits and . _ + - (files are named after it), not '../x'",
    ),
    "name that is a number": ("name: 3", "f:3: name: must be text, not 3; put it in quotes"),
    "schema written twice": (
        "schema: 1",
        "f:3: schema: this key is written twice; it is first written in line 1; keep one",
    ),
    "many at once": (
        "name: [x]\nplacements:\n  '*': {refine: [none, gat], refin: gate}\n  'a.*': {refine: {gate: {reduction: 0}}}\n"
        "  'b.*': {conv: {attend: {heads: 3}}}\ntie: all\ntie: stage\n",
        "f:3: name: must be text, not a list\n"
        "f:5: placements.*.refine: unknown option 'gat' (did you mean 'gate'?); allowed: none, gate\n"
        "f:5: placements.*.refin: unknown slot 'refin' (did you mean 'refine'?); allowed: conv, conv2, refine, after\n"
        "f:6: placements.a.*.refine.gate.reduction: must be an integer at least 1 and at most 8, not 0\n"
        "f:7: placements.b.*.conv.attend: at b.0 (and b.1, b.2): "
        "heads 3 do not divide d_k 8: choose another kappa; or narrow the glob\n"
        "f:8: tie: must be 'none', 'stage' or 'network', not 'all'\n"
        "f:9: tie: this key is written twice; it is first written in line 8; keep one",
    ),
}

BROKEN_HEADS: dict[str, tuple[str, str]] = {
    "empty file": ("", "f: is empty"),
    "text": ("hello", "f:1: must be a mapping (key: value), not 'hello'"),
    "no skeleton": (
        "schema: 1",
        "f:1: skeleton: is missing: a family and its fields, {family: resnet, depth: 50, ...}",
    ),
    "no schema": (
        "skeleton: {family: toy, image_size: 8, num_classes: 4}",
        "f:1: schema: is missing: the version of the grammar, 1",
    ),
    "schema of the future": (
        "schema: 2\nskeleton: {family: toy, image_size: 8, num_classes: 4}",
        "f:1: schema: must be 1, not 2",
    ),
    "skeleton that is a name": (
        "schema: 1\nskeleton: toy",
        "f:2: skeleton: must be a mapping (key: value), not 'toy'",
    ),
    "no family": (
        "schema: 1\nskeleton: {image_size: 8, num_classes: 4}",
        "f:2: skeleton.family: is missing: one of toy",
    ),
    "unknown family": (
        "schema: 1\nskeleton: {family: toi, image_size: 8}",
        "f:2: skeleton.family: unknown family 'toi' (did you mean 'toy'?); allowed: toy",
    ),
    "fields of the family": (
        "schema: 1\nskeleton:\n  family: toy\n  image_size: 8.5\n  widht: 3\nplacements: {'q': {refine: gat}}",
        "f:2: skeleton.num_classes: is missing\n"
        "f:4: skeleton.image_size: must be a whole number, not 8.5\n"
        "f:5: skeleton.widht: unknown key 'widht' (did you mean 'width'?); "
        "allowed: family, image_size, num_classes, in_channels, width\n"
        "f:6: placements.q.refine: unknown option 'gat' (did you mean 'gate'?); allowed: none, gate",
    ),
}


@pytest.mark.parametrize(
    ("text", "message"),
    [(HEAD + text, message) for text, message in BROKEN.values()] + list(BROKEN_HEADS.values()),
    ids=[*BROKEN, *BROKEN_HEADS],
)
def test_a_broken_file_gets_all_its_problems(text: str, message: str) -> None:
    with pytest.raises(SpaceError) as error:
        parse_space(text, "f")
    assert str(error.value) == message


def test_there_are_enough_broken_files() -> None:
    assert len(BROKEN) + len(BROKEN_HEADS) >= 25


@pytest.mark.parametrize(
    ("placements", "message"),
    [
        (
            "'*': {refine: [none, gate]}",
            "f:3: placements.*.refine: is still a choice (none, gate); an architecture has one option in every slot",
        ),
        (
            "'*': {refine: {gate: {reduction: [2, 4]}}}",
            "f:3: placements.*.refine.gate.reduction: is still a choice (2, 4); "
            "an architecture has one value for every parameter",
        ),
        (
            "'*': {refine: [{gate: {reduction: [2, 4]}}], after: [context, none]}, 'a.*': {after: none}",
            "f:3: placements.*.refine.gate.reduction: is still a choice (2, 4); "
            "an architecture has one value for every parameter\n"
            "f:3: placements.*.after: is still a choice (context, none); an architecture has one option in every slot",
        ),
    ],
)
def test_an_architecture_has_no_choices_left(placements: str, message: str) -> None:
    parse_space(f"{HEAD}placements: {{{placements}}}", "f")
    with pytest.raises(SpaceError) as error:
        parse_architecture(f"{HEAD}placements: {{{placements}}}", "f")
    assert str(error.value) == message


def test_later_rules_can_decide_a_choice() -> None:
    text = f"{HEAD}placements: {{'*': {{refine: [none, gate]}}, '?.*': {{refine: [gate]}}}}"
    assert set(parse_architecture(text).placements) == {"a.0", "a.1", "b.0", "b.1", "b.2"}


def test_an_option_need_not_stand_where_a_later_rule_replaces_it() -> None:
    spec = space_of("  '*': {conv: [plain, {attend: {heads: 8, kappa: 0.5}}]}\n  'a.*': {conv: plain}\n")
    assert [len(spec.offers[block, "conv"]) for block in ("a.0", "a.1", "b.0")] == [1, 1, 2]


def test_a_rule_that_cannot_be_read_still_replaces_earlier_ones() -> None:
    with pytest.raises(SpaceError) as error:
        parse_space(f"{HEAD}placements: {{'*': {{conv: {{attend: {{heads: 8}}}}}}, 'a.*': {{conv: plan}}}}", "f")
    assert str(error.value) == (
        "f:3: placements.a.*.conv: unknown option 'plan' (did you mean 'plain'?); allowed: plain, attend"
    )


# --- what is right ----------------------------------------------------------------------------------------------------


def test_slots_that_nobody_names_are_empty() -> None:
    spec = grammar.parse(read_yaml(HEAD))
    assert len(spec.offers) == 2 * 4 + 3 * 3
    assert set(spec.offers.values()) == {(Offer("plain"),), (Offer("none"),)}
    assert spec.tie == "none"
    assert spec.name is None


def test_later_rules_win_slot_by_slot() -> None:
    spec = space_of(
        "  '*': {refine: gate, after: [none, context]}\n  'b.*': {refine: none}\n  'b.1': {after: context}\n"
    )
    assert [spec.offers[block, "refine"][0].option for block in ("a.0", "b.0", "b.1")] == ["gate", "none", "none"]
    assert [len(spec.offers[block, "after"]) for block in ("a.0", "b.0", "b.1")] == [2, 2, 1]


def test_a_rule_holds_where_the_slot_is_open() -> None:
    spec = space_of("  '*': {conv2: attend}\n")
    assert spec.offers["a.0", "conv2"][0].option == "attend"
    assert ("b.0", "conv2") not in spec.offers


@pytest.mark.parametrize(
    ("glob", "matched"),
    [
        ("*", "a.0 a.1 b.0 b.1 b.2"),
        ("a.*", "a.0 a.1"),
        ("?.1", "a.1 b.1"),
        ("b.[!1]", "b.0 b.2"),
        ("b.[1-2]", "b.1 b.2"),
        ("b.0", "b.0"),
        ("*0", "a.0 b.0"),
    ],
)
def test_globs(glob: str, matched: str) -> None:
    spec = space_of(f"  '{glob}': {{refine: gate}}\n")
    found = [block for (block, slot), offers in spec.offers.items() if offers[0].option == "gate" and slot == "refine"]
    assert found == matched.split()


@pytest.mark.parametrize(
    "written",
    [
        "gate",
        "[gate]",
        "{gate: }",
        "{gate: {}}",
        "{gate: {reduction: 4}}",
        "{gate: {bias: true, reduction: [4]}}",
        "[{gate: {bias: [true]}}]",
    ],
)
def test_ways_to_write_an_option(written: str) -> None:
    spec = space_of(f"  '*': {{refine: {written}}}\n")
    assert spec.offers["a.0", "refine"] == (Offer("gate", (("reduction", (4,)), ("bias", (True,)))),)


def test_an_integer_serves_as_a_number() -> None:
    spec = space_of("  '*': {conv: {attend: {kappa: [1, 0.5]}}}\n")
    ((_, kappas), *_) = spec.offers["a.0", "conv"][0].params
    assert [(value, type(value)) for value in kappas] == [(1.0, float), (0.5, float)]


def test_an_offer_has_every_combination_of_its_parameters() -> None:
    offer = Offer("attend", (("kappa", (0.5, 1.0)), ("heads", (1, 2)), ("position", ("none",))))
    assert [tuple(choice.params.values()) for choice in offer.choices] == [
        (0.5, 1, "none"),
        (0.5, 2, "none"),
        (1.0, 1, "none"),
        (1.0, 2, "none"),
    ]


def test_choose_fills_in_defaults_and_checks() -> None:
    assert choose("attend", {"kappa": 1}) == Choice("attend", {"kappa": 1.0, "heads": 2, "position": "none"})
    with pytest.raises(ValueError, match=r"unknown option 'atend' \(did you mean 'attend'\?\); allowed: plain, none,"):
        choose("atend")
    with pytest.raises(ValueError, match="unknown parameter of gate 'heads'; allowed: reduction, bias"):
        choose("gate", {"heads": 1})
    with pytest.raises(ValueError, match=r"gate\.reduction must be an integer at least 1 and at most 8, not 9"):
        choose("gate", {"reduction": 9})


def test_ranges_of_blocks() -> None:
    assert spans(TOY, ["b.2", "a.0", "b.1"]) == "a.0, b.1, b.2"
    assert spans(TOY, ["b.0", "b.1", "b.2", "a.1"], to="..", comma="+") == "a.1+b.0..b.2"


@pytest.mark.parametrize(
    "placements",
    [
        {},
        {"*": {"refine": {"gate": {"reduction": [2, 4]}}}},
        {"*": {"conv2": "attend"}},
        {"b.1": {"after": "context"}},
        {"*": {"after": "context"}, "b.1": {"after": "none"}},
        {"a.*": {"after": "context"}, "b.*": {"after": ["none", {"gate": {"bias": False}}]}, "b.1": {"after": "none"}},
    ],
)
def test_rules_are_written_short(placements: dict[str, Any]) -> None:
    document = read_yaml(write_yaml({**read_yaml(HEAD).data, "placements": placements}))
    assert write_placements(TOY, grammar.parse(document).offers) == placements


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_are_found_by_path(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"{HEAD}placements: {{'*': {{refine: gate}}}}")
    assert load_space(path).size == 1
    assert load_space(str(path)).skeleton == TOY
    assert load_architecture(path) == Architecture(
        TOY, {block.name: {"refine": choose("gate")} for block in TOY.blocks()}
    )


def test_a_name_that_does_not_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SpaceError, match=r"shape: unknown preset or zoo name 'shape' \(did you mean 'shapes'\?\); allowed: "
    ):
        load_space("shape")
    with pytest.raises(SpaceError, match=r"^shape\.yaml: no such file$"):
        load_space("shape.yaml")
    (tmp_path / "shape").write_text(HEAD)
    assert load_space("shape").skeleton == TOY
