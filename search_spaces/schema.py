"""The grammar as a JSON Schema, so that editors can complete and check files."""

from typing import Any

from pydantic.json_schema import models_json_schema

from search_spaces.grammar import NAME, SCHEMA, known_options
from search_spaces.options import Option, Param
from search_spaces.sites import EMPTY, SLOTS, Slot
from search_spaces.skeletons import FAMILIES

_SLOT_DOCS: dict[Slot, str] = {
    "conv": "the convolution that the papers replace",
    "conv2": "the second 3x3 of a block that has two",
    "refine": "before the residual add",
    "after": "after the residual add",
}


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of space and architecture files.

    The schema checks names, types and ranges. Only `load_space` checks what depends on the skeleton: which blocks
    exist, and which option is possible at which block.
    """
    families, skeletons = models_json_schema([(family, "validation") for family in FAMILIES.values()])
    definitions = skeletons.get("$defs", {})
    for family in FAMILIES.values():
        definition = definitions[family.__name__]
        definition["required"] = ["family", *definition.get("required", ())]
    for slot in SLOTS:
        fitting = [option for option in known_options().values() if slot in option.slots]
        definitions[slot] = _one_or_list(_option(fitting), _SLOT_DOCS[slot])
    for option in known_options().values():
        definitions[f"option-{option.name}"] = _parameters(option)
    slots = {slot: {"$ref": f"#/$defs/{slot}", "default": EMPTY[slot]} for slot in SLOTS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Search space or architecture",
        "type": "object",
        "required": ["schema", "skeleton"],
        "additionalProperties": False,
        "properties": {
            "schema": {"const": SCHEMA, "description": "the version of the grammar"},
            "name": {"type": "string", "pattern": f"^{NAME.pattern}$", "description": "also used in file names"},
            "skeleton": {"oneOf": list(families.values()), "description": "the network without its attention"},
            "placements": {
                "description": "globs over block names, each with the slots it sets; later rules override earlier ones",
                "type": "object",
                "additionalProperties": {"type": "object", "additionalProperties": False, "properties": slots},
            },
            "tie": {
                "enum": ["none", "stage", "network"],
                "default": "none",
                "description": "which blocks make the same choice",
            },
        },
        "$defs": definitions,
    }


def _option(fitting: list[Option]) -> dict[str, Any]:
    """An option: its name, or ``{name: {parameters}}``."""
    mapping = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": {option.name: {"$ref": f"#/$defs/option-{option.name}"} for option in fitting},
    }
    names = [{"const": option.name, "description": option.summary} for option in fitting]
    return {"anyOf": [*names, mapping]}


def _parameters(option: Option) -> dict[str, Any]:
    return {
        "description": option.summary,
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {name: _parameter(param) for name, param in option.params.items()},
    }


def _parameter(param: Param) -> dict[str, Any]:
    value: dict[str, Any]
    match param.default:
        case bool():
            value = {"type": "boolean"}
        case str():
            value = {"enum": list(param.choices)}
        case _:
            value = {"type": "integer" if isinstance(param.default, int) else "number"}
            if param.low is not None:
                value["exclusiveMinimum" if param.above_low else "minimum"] = param.low
            if param.high is not None:
                value["maximum"] = param.high
    return {**_one_or_list(value, param.doc), "default": param.default}


def _one_or_list(value: dict[str, Any], description: str) -> dict[str, Any]:
    """A scalar is a fixed value; a list is a choice."""
    several = {"type": "array", "minItems": 1, "uniqueItems": True, "items": value}
    return {"description": description, "anyOf": [value, several]}
