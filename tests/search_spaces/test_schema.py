import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import search_spaces
from search_spaces import FAMILIES, json_schema, load_space, options, preset_names
from search_spaces.yamlfile import read_yaml

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SHIPPED = sorted(Path(search_spaces.__file__).parent.glob("*/*.yaml"))
HEAD = "schema: 1\nskeleton: {family: resnet, depth: 8, image_size: 32, num_classes: 4}\n"


def complaints(data: Any) -> list[str]:  # noqa: ANN401 - any document
    return [error.json_path for error in VALIDATOR.iter_errors(data)]


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_ships_is_valid(path: Path) -> None:
    assert complaints(read_yaml(path).data) == []


@pytest.mark.parametrize("name", preset_names())
def test_what_is_written_is_valid(name: str) -> None:
    assert complaints(read_yaml(load_space(name).dump()).data) == []


@pytest.mark.parametrize(
    "placements",
    [
        "{'*': {conv: plain, conv2: aw, refine: none, after: se}}",
        "{'*': {refine: [none, se, {cbam: {reduction: [4, 8]}}]}}",
        "{'*': {refine: {se: }}}",
        "{'*': {refine: {se: {bias: [true, false]}}}}",
        "{'*': {conv: {aa: {kappa: 1, heads: 4, position: [none, relative]}}}}",
    ],
)
def test_what_the_parser_takes_is_valid(placements: str) -> None:
    assert complaints(read_yaml(f"{HEAD}placements: {placements}").data) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (f"{HEAD}placements: {{'*': {{refin: se}}}}", "$.placements['*']"),
        (f"{HEAD}placements: {{'*': {{refine: sse}}}}", "$.placements['*'].refine"),
        (f"{HEAD}placements: {{'*': {{conv: se}}}}", "$.placements['*'].conv"),
        (f"{HEAD}placements: {{'*': {{refine: []}}}}", "$.placements['*'].refine"),
        (f"{HEAD}placements: {{'*': {{refine: }}}}", "$.placements['*'].refine"),
        (f"{HEAD}placements: {{'*': {{refine: {{se: {{reduction: 0}}}}}}}}", "$.placements['*'].refine"),
        (f"{HEAD}placements: {{'*': {{refine: {{se: {{reduction: 1.5}}}}}}}}", "$.placements['*'].refine"),
        (f"{HEAD}placements: {{'*': {{refine: {{se: {{r: 1}}}}}}}}", "$.placements['*'].refine"),
        (f"{HEAD}placements: {{'*': {{refine: {{se: {{}}, cbam: {{}}}}}}}}", "$.placements['*'].refine"),
        (f"{HEAD}placements: {{'*': {{conv: {{aa: {{kappa: 0}}}}}}}}", "$.placements['*'].conv"),
        (f"{HEAD}placements: {{'*': {{conv: {{aa: {{position: near}}}}}}}}", "$.placements['*'].conv"),
        (f"{HEAD}tie: stages", "$.tie"),
        (f"{HEAD}name: ../x", "$.name"),
        (f"{HEAD}more: 1", "$"),
        (HEAD.replace("schema: 1", "schema: 2"), "$.schema"),
        (HEAD.replace("schema: 1\n", ""), "$"),
        (HEAD.replace("family: resnet, ", ""), "$.skeleton"),
        (HEAD.replace("resnet", "resnest"), "$.skeleton"),
        (HEAD.replace("depth: 8", "depth: eight"), "$.skeleton"),
    ],
)
def test_what_the_parser_refuses_is_not(text: str, where: str) -> None:
    assert complaints(read_yaml(text).data) == [where]


def test_the_schema_describes_everything() -> None:
    definitions = SCHEMA["$defs"]
    assert {family.__name__ for family in FAMILIES.values()} <= set(definitions)
    for option in options().values():
        definition = definitions[f"option-{option.name}"]
        assert definition["description"] == option.summary
        assert {name: value["default"] for name, value in definition["properties"].items()} == {
            name: param.default for name, param in option.params.items()
        }
