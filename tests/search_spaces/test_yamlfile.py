import math
import os
import pickle
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from search_spaces.yamlfile import (
    MAX_BYTES,
    Document,
    FileError,
    Problem,
    WrongInside,
    check,
    read_yaml,
    validate,
    write_yaml,
)


def problems(document: Document) -> str:
    return "\n".join(map(str, document.problems))


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("off", "off"),
        ("yes", "yes"),
        ("y", "y"),
        ("none", "none"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("3", 3),
        ("-3", -3),
        ("1_000", 1000),
        ("010", 10),
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("+1.5e+2", 150.0),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("12:30", "12:30"),
        ("0x1F", "0x1F"),
        ("2024-01-01", "2024-01-01"),
        ("'3'", "3"),
        ('"true"', "true"),
        ("1" * 65, "1" * 65),
    ],
)
def test_plain_scalars_have_the_type_that_a_person_expects(text: str, value: object) -> None:
    document = read_yaml(f"key: {text}\n")
    assert document.problems == ()
    found = document.data["key"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number() -> None:
    assert math.isnan(read_yaml("key: .nan").data["key"])


def test_keys_are_names_whatever_they_look_like() -> None:
    keys = ["1", "true", "off", "null", "1.50", "010", "1_0", "~"]
    text = "\n".join(f"{key}: {key}" for key in keys)
    assert list(read_yaml(text).data) == keys
    assert read_yaml("a: &x 3\n*x : b\n").data == {"a": 3, "3": "b"}


def test_places() -> None:
    document = read_yaml("a:\n  b: 1\n  c:\n    - x\n    - d: 2\n# more\ne: &e\n  f: 3\ng: *e\n", "file.yaml")
    assert document.place(()) == ("file.yaml", 1)
    assert document.place(("a",)) == ("file.yaml", 1)
    assert document.place(("a", "c")) == ("file.yaml", 3)
    assert document.place(("a", "c", 0)) == ("file.yaml", 4)
    assert document.place(("a", "c", 1, "d")) == ("file.yaml", 5)
    assert document.place(("g",)) == ("file.yaml", 9)
    assert document.place(("g", "f")) == ("file.yaml", 8)
    assert document.place(("a", "nothing", "there")) == ("file.yaml", 1)
    assert document.get(("a", "c", 1)) == {"d": 2}
    assert document.get(("a", "nothing", "there")) is None


def test_an_alias_stands_for_its_value() -> None:
    document = read_yaml("a: &x [1, {b: 2}]\nc: *x\nd: &x 3\ne: *x\n")
    assert document.problems == ()
    assert document.data == {"a": [1, {"b": 2}], "c": [1, {"b": 2}], "d": 3, "e": 3}


def _bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f: is empty"),
        ("# only a comment\n", "f: is empty"),
        ("a: 1\na: 2\n", "f:2: a: this key is written twice; it is first written in line 1; keep one"),
        (
            "a: {b: 1, b: 2}\nc: 1\nc: 2\n",
            "f:1: a.b: this key is written twice; it is first written in line 1; keep one\n"
            "f:3: c: this key is written twice; it is first written in line 2; keep one",
        ),
        (
            "a: !!python/object/apply:os.system [ls]",
            "f:1: a: tags are not allowed; remove !!python/object/apply:os.system",
        ),
        ("a:\n  b: !foo {}\n", "f:2: a.b: tags are not allowed; remove !foo"),
        ("a: !!str 3\n", "f:1: a: tags are not allowed; remove !!str"),
        ("a: *b\n", "f:1: *b refers to nothing; a name that begins with * must be quoted"),
        ("a: &a {b: *a}\n", "f:1: *a refers to a value that contains it"),
        (_bomb(9), "f:4: has more than 10000 values, counting what aliases repeat"),
        (
            "\n".join(f"k{i}: 1" for i in range(10_000)),
            "f:5001: has more than 10000 values, counting what aliases repeat",
        ),
        ("a: " + "[" * 40 + "]" * 40, "f:1: is nested deeper than 32 levels"),
        ("[" * 20_000, "f:1: is nested deeper than 32 levels"),
        (
            "? [a, b]\n: 1\n",
            "f:1: a list or a mapping cannot be a key; keys are names (quote one that starts with [ or {)",
        ),
        ("a: 1\n---\nb: 2\n", "f:2: a second document starts here; keep one document in a file"),
        ("a: 1\nb: \x07\n", "f:2: character 0x07 is not allowed in YAML"),
        ('a: "\\ud800"', "f:1: an escape such as \\ud800 is half a character; write the character itself"),
        ("a:\n\tb: 1\n", "f:2: a tab cannot indent; use spaces"),
        ("*: 1\n", 'f:1: a name that begins with * must be quoted: "*"'),
        ("a: [1, 2\nb: 3\n", "f:2: the list in brackets of line 1 has no closing ], or a comma is missing"),
        ("a: {b: [c, d}\n", "f:1: the list in brackets has no closing ], or a comma is missing"),
        ("a: {b: 1\nc: 2\n", "f:2: the mapping in brackets of line 1 has no closing }, or a comma is missing"),
        ("a: 1\nb: 'x\nc: 2\n", "f:2: a quoted text begins here and has no closing quote"),
        ("a: @x\n", "f:1: a value cannot begin with '@'; quote it"),
        (
            "a: b: c\n",
            "f:1: a ':' is not expected here; check the indentation above, and quote a text that contains ': '",
        ),
        (
            "a:\n    b: 1\n  c: 2\n",
            "f:3: the indentation does not match the lines above; all keys of a mapping start in the same column",
        ),
        (
            "a: 1\n- b\n",
            "f:2: the indentation does not match the lines above; all keys of a mapping start in the same column",
        ),
        ("a: 1\nbc\n", "f:3: a key has no ':'; write key: value"),
        ("a: !x!y 1\n", "f:1: not valid YAML: while parsing a node, found undefined tag handle '!x!'"),
        ("x" * (MAX_BYTES + 1), "f: is larger than 1 MiB, the limit for a configuration"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, message: str) -> None:
    assert problems(read_yaml(text, "f")) == message


def test_reading_continues_after_a_problem() -> None:
    document = read_yaml("a: 1\na: 2\nb: !foo 3\nc: [\n", "f")
    assert not document.readable
    assert [problem.line for problem in document.problems] == [2, 3, 5]


def test_the_first_of_duplicate_keys_counts() -> None:
    document = read_yaml("a: 1\na: {b: [2]}\nc: 3\n")
    assert document.readable
    assert document.data == {"a": 1, "c": 3}


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    assert problems(read_yaml(tmp_path / "nothing.yaml", "f")) == "f: no such file"
    assert problems(read_yaml(tmp_path, "f")) == "f: is a directory; name a YAML file"
    assert problems(read_yaml(Path("a\0b"), "f")) == "f: cannot be read: embedded null byte"
    (tmp_path / "latin.yaml").write_bytes("a: 1\nb: caf\xe9\n".encode("latin-1"))
    assert problems(read_yaml(tmp_path / "latin.yaml", "f")) == "f:2: byte 0xe9 is not UTF-8; save the file as UTF-8"
    (tmp_path / "big.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    assert problems(read_yaml(tmp_path / "big.yaml", "f")) == "f: is larger than 1 MiB, the limit for a configuration"
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    assert problems(read_yaml(tmp_path / "loop.yaml", "f")) == f"f: cannot be read: {os.strerror(40)}"


def test_a_file_is_named_by_its_path_and_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    document = read_yaml(path)
    assert document.data == {"a": 1, "b": 2}
    assert document.place(("b",)) == (str(path), 2)


@given(st.text(max_size=60) | st.text(alphabet="ab1:-[]{}&*!#',?|>%@`.\n \t\"\\", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    document = read_yaml(text)
    assert document.readable or document.problems


_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=6), _DATA, min_size=1, max_size=4))
def test_what_is_written_is_read_again(data: dict[str, Any]) -> None:
    document = read_yaml(write_yaml(data))
    assert document.problems == ()
    assert document.data == data


def test_text_that_looks_like_something_else_is_quoted() -> None:
    texts = ["1e3", "no", "none", "3", "true", "null", "", "*", "12:30", "1_0"]
    assert read_yaml(write_yaml({"a": texts})).data == {"a": texts}


# --- overrides --------------------------------------------------------------------------------------------------------


def test_overrides_set_values_in_turn() -> None:
    document = read_yaml("a: {b: 1}\nc: [1, {d: 2}]\n")
    changed = document.with_overrides(["a.b=1e-3", "a.new.deep=[x, 2]", "c.1.d=true", "e=", "a.b=7", "f=a=b"])
    assert changed.problems == ()
    assert changed.data == {"a": {"b": 7, "new": {"deep": ["x", 2]}}, "c": [1, {"d": True}], "e": None, "f": "a=b"}
    assert document.data == {"a": {"b": 1}, "c": [1, {"d": 2}]}


def test_overrides_are_places() -> None:
    document = read_yaml("a: {b: 1}\n", "f").with_overrides(["a.c.d=2"])
    assert document.place(("a", "b")) == ("f", 1)
    assert document.place(("a", "c", "d")) == ("--set a.c.d=2", None)
    assert document.place(("a", "c")) == ("--set a.c.d=2", None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a", "--set a: write key=value, with dots for nested keys: trainer.epochs=3"),
        ("=3", "--set =3: write key=value, with dots for nested keys: trainer.epochs=3"),
        ("a..b=3", "--set a..b=3: write key=value, with dots for nested keys: trainer.epochs=3"),
        ("a.x=3", "--set a.x=3: a: is 1, which has no key 'x'"),
        ("b.2=3", "--set b.2=3: b: is a list of 2; name an index from 0, not '2'"),
        ("b.1.c.d=3", "--set b.1.c.d=3: b.1.c: is 2, which has no key 'd'"),
        ("a=[1", "--set a=[1: a: the list in brackets has no closing ], or a comma is missing"),
        ("a={x: 1, x: 2}", "--set a={x: 1, x: 2}: a.x: this key is written twice; keep one"),
        ("a=!!int 3", "--set a=!!int 3: a: tags are not allowed; remove !!int"),
    ],
)
def test_what_cannot_be_set_says_why(override: str, message: str) -> None:
    document = read_yaml("a: 1\nb: [1, {c: 2}]\n", "f")
    assert problems(document.with_overrides([override])) == message


def test_a_document_over_another() -> None:
    base = read_yaml("a: {b: 1, c: [1, 2]}\nd: 3\n", "base")
    document = read_yaml("\na: {c: [3], e: 4}\nd:\n", "f").over(base)
    assert document.data == {"a": {"b": 1, "c": [3], "e": 4}, "d": 3}
    assert document.place(("a", "b")) == ("base", 1)
    assert document.place(("a", "c")) == ("f", 2)
    assert document.place(("d",)) == ("base", 2)
    broken = read_yaml("a: 1\na: 2\n", "f").over(read_yaml("[", "base"))
    assert not broken.readable
    assert [problem.file for problem in broken.problems] == ["f", "base"]


# --- checking ---------------------------------------------------------------------------------------------------------


class Trainer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    epochs: int = Field(default=3, ge=1, le=10)
    lr: float = Field(default=0.1, gt=0)
    optimizer: Literal["sgd", "adam"] = "sgd"
    steps: tuple[int, ...] = ()
    amp: bool = False


class Shapes(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Literal["shapes"]
    train: int = Field(default=1, lt=100)


class Folder(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Literal["folder"]
    path: Path = Field(description="the folder of the pictures")


class Objective(BaseModel):
    model_config = ConfigDict(extra="forbid")
    measure: str = Field(min_length=2)
    goal: Literal["min", "max"] = "max"


class Run(BaseModel):
    model_config = ConfigDict(extra="forbid")
    data: Annotated[Shapes | Folder, Field(discriminator="name")] = Shapes(name="shapes")
    trainer: Trainer = Trainer()
    objectives: list[Objective] = Field(default=[], max_length=3)
    gpus: int | float | Literal["auto"] = "auto"
    budget: dict[str, float | str] = {}
    fallback: Trainer | None = None
    seed: int = Field(default=0, alias="random-seed")

    @model_validator(mode="after")
    def _small(self) -> "Run":
        if len(self.objectives) == 2 and self.budget:
            raise ValueError("two objectives need no budget; remove one")
        return self


def test_a_good_file_becomes_the_model() -> None:
    text = "trainer: {lr: 1e-3, steps: [1, 2]}\ndata: {name: folder, path: a/b}\ngpus: 0.5\nrandom-seed: 7\n"
    run = validate(read_yaml(text), Run)
    assert run.trainer == Trainer(lr=1e-3, steps=(1, 2))
    assert run.data == Folder(name="folder", path=Path("a/b"))
    assert (run.gpus, run.seed) == (0.5, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer: {epochs: 0}", "f:1: trainer.epochs: must be at least 1, not 0"),
        ("trainer: {epochs: 11}", "f:1: trainer.epochs: must be at most 10, not 11"),
        ("trainer: {epochs: 1.5}", "f:1: trainer.epochs: must be a whole number, not 1.5"),
        ("trainer: {epochs: '3'}", "f:1: trainer.epochs: must be a whole number, not '3'"),
        ("trainer: {epochs: true}", "f:1: trainer.epochs: must be a whole number, not true"),
        ("trainer: {lr: 0}", "f:1: trainer.lr: must be greater than 0, not 0"),
        ("trainer: {lr: fast}", "f:1: trainer.lr: must be a number, not 'fast'"),
        ("trainer: {amp: yes}", "f:1: trainer.amp: must be true or false, not 'yes'"),
        ("trainer:\n", "f:1: trainer: must be a mapping (key: value), not empty"),
        ("trainer: {steps: 3}", "f:1: trainer.steps: must be a list, not 3"),
        ("trainer:\n  steps:\n    - 1\n    - x\n", "f:4: trainer.steps[1]: must be a whole number, not 'x'"),
        (
            "trainer: {optimizer: addam}",
            "f:1: trainer.optimizer: must be 'sgd' or 'adam', not 'addam' (did you mean 'adam'?)",
        ),
        (
            "trainer:\n  epoch: 3\n",
            "f:2: trainer.epoch: unknown key 'epoch' (did you mean 'epochs'?); "
            "allowed: epochs, lr, optimizer, steps, amp",
        ),
        ("data: {name: shapes, train: 100}", "f:1: data.train: must be less than 100, not 100"),
        ("data: {name: folder}", "f:1: data.path: is missing: the folder of the pictures"),
        ("data: {name: folder, path: 3}", "f:1: data.path: must be text, not 3; put it in quotes"),
        ("data: {name: shape}", "f:1: data.name: must be 'shapes' or 'folder', not 'shape' (did you mean 'shapes'?)"),
        ("data: {path: x}", "f:1: data.name: is missing: one of 'shapes', 'folder'"),
        ("data: 3", "f:1: data: must be a mapping (key: value), not 3"),
        ("data: {name: shapes, size: 3}", "f:1: data.size: unknown key 'size'; allowed: name, train"),
        ("objectives: [{goal: min}]", "f:1: objectives[0].measure: is missing"),
        ("objectives: [{measure: x}]", "f:1: objectives[0].measure: must be text of at least 2 characters, not 'x'"),
        ("objectives: [{measure: 3}]", "f:1: objectives[0].measure: must be text, not 3; put it in quotes"),
        (
            "objectives:\n  - {measure: ms}\n  - {measure: ms, gaol: min}\n",
            "f:3: objectives[1].gaol: unknown key 'gaol' (did you mean 'goal'?); allowed: measure, goal",
        ),
        (
            "objectives: [{measure: ms}, {measure: ms}, {measure: ms}, {measure: ms}]",
            "f:1: objectives: must have at most 3 entries, not 4",
        ),
        ("gpus: some", "f:1: gpus: must be a number or 'auto', not 'some'"),
        ("budget: {ms: [3]}", "f:1: budget.ms: must be a number or text, not a list"),
        ("fallback: {lrr: 1}", "f:1: fallback.lrr: unknown key 'lrr' (did you mean 'lr'?); "
         "allowed: epochs, lr, optimizer, steps, amp"),
        ("random-seed: x", "f:1: random-seed: must be a whole number, not 'x'"),
        ("random-sed: 1", "f:1: random-sed: unknown key 'random-sed' (did you mean 'random-seed'?); "
         "allowed: data, trainer, objectives, gpus, budget, fallback, random-seed"),
        (
            "objectives: [{measure: ms}, {measure: ms}]\nbudget: {ms: 3}\n",
            "f:1: two objectives need no budget; remove one",
        ),
        ("- 1", "f:1: must be a mapping (key: value), not a list"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_model_says_what_would(text: str, message: str) -> None:
    with pytest.raises(FileError) as error:
        validate(read_yaml(text, "f"), Run)
    assert str(error.value) == message


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = "trainer: {epochs: 0, epoch: 1}\ndata: {name: folder}\nbudget: {ms: !!float 3}\nbudget: {}\nmore: 1\n"
    with pytest.raises(FileError) as error:
        validate(read_yaml(text, "f").with_overrides(["gpus=none", "trainer.lr=-1"]), Run)
    assert str(error.value).splitlines() == [
        "--set gpus=none: gpus: must be a number or 'auto', not 'none'",
        "--set trainer.lr=-1: trainer.lr: must be greater than 0, not -1",
        "f:1: trainer.epochs: must be at least 1, not 0",
        "f:1: trainer.epoch: unknown key 'epoch' (did you mean 'epochs'?); allowed: epochs, lr, optimizer, steps, amp",
        "f:2: data.path: is missing: the folder of the pictures",
        "f:3: budget.ms: tags are not allowed; remove !!float",
        "f:4: budget: this key is written twice; it is first written in line 3; keep one",
        "f:5: more: unknown key 'more'; allowed: data, trainer, objectives, gpus, budget, fallback, random-seed",
    ]


def test_a_file_with_problems_of_reading_only_is_refused_too() -> None:
    with pytest.raises(FileError, match="f:2: seed: this key is written twice"):
        validate(read_yaml("seed: 1\nseed: 2\n", "f"), _Seeded)


class _Seeded(BaseModel):
    seed: int


def test_an_unreadable_file_has_only_problems_of_reading() -> None:
    with pytest.raises(FileError) as error:
        validate(read_yaml("a: [", "f"), Run)
    assert len(error.value.problems) == 1


def test_a_part_of_a_document_can_be_checked() -> None:
    document = read_yaml("x:\n  trainer:\n    epochs: 0\n", "f")
    assert check(document, Trainer, ("x", "trainer")) == (
        None,
        [Problem("f", 3, "x.trainer.epochs", "must be at least 1, not 0")],
    )
    assert check(document, Trainer, ("nowhere",))[0] is None


def test_the_error_is_of_the_type_asked_for_and_survives_a_process_border() -> None:
    class OtherError(FileError):
        pass

    with pytest.raises(OtherError):
        validate(read_yaml("a: 1", "f"), Run, error=OtherError)
    error = FileError([Problem("f", 2, "b", "is wrong"), Problem("f", 1, "a", "is wrong")])
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "f:1: a: is wrong\nf:2: b: is wrong"
    assert copy.problems == error.problems


def test_nothing_of_a_file_reaches_the_terminal_as_control_sequence() -> None:
    text = '"\\e[31m\\n\\L": 1\ntrainer: {epochs: "\\e[0m"}\n'
    with pytest.raises(FileError) as error:
        validate(read_yaml(text, "f"), Run)
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_endless_problems_are_counted() -> None:
    error = FileError([Problem("f", line, "", "is wrong") for line in range(1, 251)])
    assert len(error.problems) == 250
    assert str(error).splitlines()[99:] == ["f:100: is wrong", "and 150 more"]


def test_long_values_are_shown_short() -> None:
    with pytest.raises(FileError) as error:
        validate(read_yaml(f"trainer: {{epochs: {'x' * 500}}}", "f"), Run)
    assert len(str(error.value)) < 120


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("my imgs #2", "my imgs #2"),
        ("#2", "#2"),
        (" a  # b ", "a  # b"),
        ("a#b", "a#b"),
        ("'a # b'", "a # b"),
        ("[1, 2]", [1, 2]),
        ("", None),
        ("12", 12),
        ("12 #", "12 #"),
    ],
)
def test_the_command_line_has_no_comments(written: str, value: object) -> None:
    document = read_yaml("a: 0\n").with_overrides([f"a={written}"])
    assert document.problems == ()
    assert document.get(("a",)) == value


@pytest.mark.parametrize("written", ["[1] # x", "'a' # b", "{a: 1} #"])
def test_text_after_a_value_is_reported(written: str) -> None:
    (problem,) = read_yaml("a: 0\n").with_overrides([f"a={written}"]).problems
    assert "belongs to nothing; remove it, or quote the whole" in problem.message


class Inner(BaseModel):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _ordered(self) -> "Inner":
        if self.low > self.high:
            raise WrongInside([(("low",), f"is above high ({self.high})"), (("high",), f"is below low ({self.low})")])
        return self


class Outer(BaseModel):
    inner: Inner


def test_a_validator_can_say_where_inside() -> None:
    document = read_yaml("inner:\n  low: 3\n").with_overrides(["inner.high=2"])
    _, problems = check(document, Outer)
    assert sorted(map(str, problems)) == [
        "--set inner.high=2: inner.high: is below low (3)",
        "<string>:2: inner.low: is above high (2)",
    ]


class Named(BaseModel):
    root: str = ""


@pytest.mark.parametrize("written", ["a: b", "true", "1e3", "[x]", "{x}", "it's: so", '"x": \\', "é: 1"])
def test_an_error_says_how_to_quote_text_that_yaml_reads_as_another_type(written: str) -> None:
    with pytest.raises(FileError) as error:
        validate(read_yaml("{}").with_overrides([f"root={written}"]), Named)
    remedy = str(error.value).split("; put it in quotes: ")[1]
    option, assignment = shlex.split(remedy)
    assert option == "--set"
    assert validate(read_yaml("{}").with_overrides([assignment]), Named).root == written
