"""YAML with line numbers, and errors that a person can act on.

`read_yaml` keeps the line of every value and refuses what a configuration never needs: tags, repeated keys, aliases
that contain themselves. `validate` checks a document against a pydantic model. Both report all problems of a file, not
only the first. Each `Problem` prints as one line, ``file:line: key: what is wrong, what is allowed``.

Plain scalars follow YAML 1.2, while PyYAML follows 1.1: ``no`` and ``off`` are text, ``1e-3`` is a number and ``12:30``
is text.
"""

import difflib
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, TypeAlias, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from search_spaces.errors import UserFacingError, named, printable

MAX_BYTES = 1 << 20
MAX_NODES = 10_000
"""Largest number of values in a document, including those that aliases repeat."""
MAX_DEPTH = 32

MAX_SEED = 2**32 - 1
"""What every generator of random numbers takes."""

_ON_COMMAND_LINE = "--set "
"""Prefix of `Problem.file` for a value from the command line."""

Scalar: TypeAlias = bool | int | float | str | None
KeyPath: TypeAlias = tuple[str | int, ...]
"""Path to a value: keys of mappings and indices of lists."""

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem in one place. ``file`` is a path, or ``--set key=value`` for a value from the command line."""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        file, key = named(self.file), named(self.key) if self.key else ""
        place = file if self.line is None else f"{file}:{self.line}"
        text = ": ".join(part for part in (place, key, self.message) if part)
        return printable(text)


class FileError(UserFacingError, ValueError):
    """A file cannot be used; lists all its problems. The text has one line per problem, for at most 100 of them."""

    names_file = True

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.line or 0)))
        assert self.problems, "an error needs a problem"
        more = [f"and {len(self.problems) - 100} more"] if len(self.problems) > 100 else []
        super().__init__("\n".join([*map(str, self.problems[:100]), *more]))

    def __reduce__(self) -> tuple[type["FileError"], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Node:
    """A value and its place. A mapping's entry also has the line of its key, because its value may start below that."""

    value: "Scalar | list[_Node] | dict[str, _Node]"
    file: str
    line: int | None
    key_line: int | None = None
    size: int = 1

    def plain(self) -> Any:  # noqa: ANN401 - whatever the file holds
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def child(self, key: str | int) -> "_Node | None":
        if isinstance(self.value, dict):
            return self.value.get(str(key))
        if isinstance(self.value, list) and isinstance(key, int) and -1 < key < len(self.value):
            return self.value[key]
        return None


@dataclass(frozen=True)
class Document:
    """The contents of a file, with the place of every value and the problems found while reading.

    ``readable`` is False if the contents cannot be checked: the file is missing, or its syntax is broken.
    """

    source: str
    root: _Node
    problems: tuple[Problem, ...] = ()
    readable: bool = True
    end: int = 0
    """Where in the text the last value ends; only comments stand behind it."""

    @cached_property
    def data(self) -> Any:  # noqa: ANN401 - whatever the file holds
        """The document as plain dicts, lists and scalars. For a key that is written twice, the first value counts."""
        return self.root.plain()

    def get(self, path: KeyPath) -> Any:  # noqa: ANN401 - whatever the file holds
        """The value at ``path``, None if there is none."""
        node: _Node | None = self.root
        for key in path:
            node = node.child(key) if node is not None else None
        return None if node is None else node.plain()

    def place(self, path: KeyPath) -> tuple[str, int | None]:
        """File and line of the deepest part of ``path`` that exists."""
        node = self.root
        file, line = node.file, node.line
        for key in path:
            child = node.child(key)
            if child is None:
                break
            node = child
            file, line = node.file, node.key_line or node.line
        return file, line

    def problem(self, path: KeyPath, message: str, *, key: str | None = None) -> Problem:
        """A problem with the value at ``path``. The message shows ``key`` in place of the path if it is given."""
        file, line = self.place(path)
        return Problem(file, line, dotted(path) if key is None else key, message)

    def with_overrides(self, assignments: Iterable[str]) -> "Document":
        """This document after each ``key.path=value`` in turn; missing mappings are created.

        Values are YAML without comments: ``data.root=my pictures #2`` names a folder.
        """
        root, problems = self.root, list(self.problems)
        for assignment in assignments:
            file = f"{_ON_COMMAND_LINE}{assignment}"
            key, equals, text = assignment.partition("=")
            path = tuple(part.strip() for part in key.split("."))
            if not equals or not all(path):
                problems.append(Problem(file, None, "", "write key=value, with dots for nested keys: trainer.epochs=3"))
                continue
            value = _read_value(text, file)
            problems += [
                replace(problem, key=dotted((*path, *filter(None, [problem.key])))) for problem in value.problems
            ]
            if value.readable:
                changed = _assign(root, path, value.root, file)
                if isinstance(changed, Problem):
                    problems.append(changed)
                else:
                    root = changed
        return replace(self, root=root, problems=tuple(problems))

    def over(self, base: "Document") -> "Document":
        """This document on top of ``base``, which supplies missing and empty values. Every value keeps its place."""
        return replace(
            self,
            root=_laid_over(self.root, base.root),
            problems=(*self.problems, *base.problems),
            readable=self.readable and base.readable,
        )


def read_yaml(path_or_text: Path | str, source: str | None = None) -> Document:
    """Reads one YAML document: a `Path` is opened, a ``str`` is the text itself.

    Problems call the file ``source`` (default: the path). Nothing is raised for a bad file: the document's ``problems``
    say what is wrong.
    """
    name = source if source is not None else str(path_or_text) if isinstance(path_or_text, Path) else "<string>"
    if isinstance(path_or_text, str):
        return _read_text(path_or_text, name)
    try:
        with path_or_text.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return _unreadable(name, None, "no such file")
    except IsADirectoryError:
        return _unreadable(name, None, "is a directory; name a YAML file")
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        return _unreadable(name, None, f"cannot be read: {getattr(error, 'strerror', None) or error}")
    try:
        return _read_text(raw.decode("utf-8-sig"), name)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return _unreadable(name, line, f"byte {raw[error.start]:#04x} is not UTF-8; save the file as UTF-8")


def _read_text(text: str, name: str, *, lines: bool = True, may_be_empty: bool = False) -> Document:
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        return _unreadable(name, None, f"is larger than {MAX_BYTES >> 20} MiB, the limit for a configuration")
    reader = _Reader(name, lines)
    try:
        root = reader.read(text)
    except _StopReadingError as stop:
        return replace(stop.document, problems=(*reader.problems, *stop.document.problems))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if lines else None
        document = _unreadable(name, line, f"character {error.character:#04x} is not allowed in YAML")
        return replace(document, problems=(*reader.problems, *document.problems))
    except yaml.MarkedYAMLError as error:
        in_quotes = error.context == "while scanning a quoted scalar"
        mark = error.context_mark if in_quotes else error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None and lines else None
        document = _unreadable(name, line, _syntax_message(error))
        return replace(document, problems=(*reader.problems, *document.problems))
    if root is None:
        if not may_be_empty:
            return _unreadable(name, None, "is empty")
        root = _Node(None, name, None)
    return Document(name, root, tuple(reader.problems), end=reader.end)


def _read_value(text: str, name: str) -> Document:
    """YAML of one value, in which ``#`` begins no comment."""
    document = _read_text(text, name, lines=False, may_be_empty=True)
    rest = text[document.end :].strip()
    if not document.readable or not rest:
        return document
    value = document.root.value
    if isinstance(value, dict | list) or text.lstrip()[:1] in ("'", '"'):
        return _unreadable(
            name, None, f"{show(rest)} behind the value belongs to nothing; remove it, or quote the whole"
        )
    return replace(document, root=_Node(text.strip(), name, None))


def _unreadable(name: str, line: int | None, message: str) -> Document:
    return Document(name, _Node(None, name, line), (Problem(name, line, "", message),), readable=False)


class _StopReadingError(Exception):
    """Stops the reader: the rest of the file is useless or dangerous."""

    def __init__(self, document: Document) -> None:
        self.document = document


@dataclass
class _Open:
    """A collection whose end has not been read yet. ``key`` is set between a mapping's key and its value."""

    items: "list[_Node] | dict[str, _Node]"
    line: int | None
    anchor: str | None
    key: str | None = None
    key_line: int | None = None
    repeats: bool = False


@dataclass
class _Reader:
    """Builds nodes from PyYAML's events in one loop without recursion, and checks depth and size meanwhile."""

    name: str
    lines: bool
    problems: list[Problem] = field(default_factory=list)
    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, _Node | None] = field(default_factory=dict)
    count: int = 0
    root: _Node | None = None
    end: int = 0

    def read(self, text: str) -> _Node | None:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            assert event.start_mark is not None
            line = event.start_mark.line + 1 if self.lines else None
            if isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent) and event.end_mark is not None:
                self.end = event.end_mark.index
            match event:
                case yaml.DocumentStartEvent() if self.root is not None:
                    self.stop(line, "a second document starts here; keep one document in a file")
                case yaml.AliasEvent(anchor=str(anchor)):
                    self.add(self.aliased(anchor, line), line)
                case yaml.ScalarEvent():
                    self.no_tag(event.tag, line)
                    if any("\ud800" <= char <= "\udfff" for char in event.value):
                        self.stop(line, "an escape such as \\ud800 is half a character; write the character itself")
                    # A key is always text: `1_0:` and `null:` are "1_0" and "null".
                    plain = event.implicit[0] and event.style is None and not self.expects_key
                    node = _Node(_scalar(event.value) if plain else event.value, self.name, line)
                    if event.anchor is not None:
                        self.anchors[event.anchor] = node
                    self.add(node, line)
                case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                    self.no_tag(event.tag, line)
                    if len(self.stack) >= MAX_DEPTH:
                        self.stop(line, f"is nested deeper than {MAX_DEPTH} levels")
                    if event.anchor is not None:
                        self.anchors[event.anchor] = None
                    items: list[_Node] | dict[str, _Node] = [] if isinstance(event, yaml.SequenceStartEvent) else {}
                    self.stack.append(_Open(items, line, event.anchor))
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    done = self.stack.pop()
                    children = done.items if isinstance(done.items, list) else done.items.values()
                    node = _Node(done.items, self.name, done.line, size=1 + sum(child.size for child in children))
                    if done.anchor is not None:
                        self.anchors[done.anchor] = node
                    self.add(node, done.line, counted=True)
        return self.root

    @property
    def expects_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].items, dict) and self.stack[-1].key is None

    def add(self, node: _Node, line: int | None, *, counted: bool = False) -> None:
        """Adds a finished node to the innermost open collection."""
        self.count += 1 if counted else node.size
        if self.count > MAX_NODES:
            self.stop(line, f"has more than {MAX_NODES} values, counting what aliases repeat")
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        if isinstance(top.items, list):
            top.items.append(node)
        elif top.key is None:
            self.start_entry(top, node, line)
        else:
            if not top.repeats:
                top.items[top.key] = replace(node, key_line=top.key_line)
            top.key = None

    def start_entry(self, top: _Open, node: _Node, line: int | None) -> None:
        assert isinstance(top.items, dict)
        if isinstance(node.value, dict | list):
            self.stop(line, "a list or a mapping cannot be a key; keys are names (quote one that starts with [ or {)")
        # Only an alias can make a key that is not text.
        top.key, top.key_line = node.value if isinstance(node.value, str) else json.dumps(node.value), line
        top.repeats = top.key in top.items
        if top.repeats:
            first = top.items[top.key].key_line
            where = "" if first is None else f"; it is first written in line {first}"
            path = (*(open_.key for open_ in self.stack if open_.key is not None),)
            self.problems.append(Problem(self.name, line, dotted(path), f"this key is written twice{where}; keep one"))

    def aliased(self, anchor: str, line: int | None) -> _Node:
        if anchor not in self.anchors:
            self.stop(line, f"*{anchor} refers to nothing; a name that begins with * must be quoted")
        node = self.anchors[anchor]
        if node is None:
            self.stop(line, f"*{anchor} refers to a value that contains it")
        return node

    def no_tag(self, tag: str | None, line: int | None) -> None:
        if tag is not None:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            path = tuple(open_.key for open_ in self.stack if open_.key is not None)
            self.problems.append(Problem(self.name, line, dotted(path), f"tags are not allowed; remove {shown}"))

    def stop(self, line: int | None, message: str) -> NoReturn:
        raise _StopReadingError(_unreadable(self.name, line, message))


_INT = re.compile(r"[-+]?[0-9][0-9_]*")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}


def _scalar(text: str) -> Scalar:
    """The value of a plain (unquoted) scalar."""
    if text in _WORDS:
        return _WORDS[text]
    # Longer digit strings are surely text, and Python refuses to convert very long ones.
    if len(text) <= 64:
        if _INT.fullmatch(text):
            return int(text.rstrip("_").replace("_", ""))
        if _FLOAT.fullmatch(text):
            return float(text.replace("_", ""))
    return text


def _syntax_message(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's error in words for a reader who does not know the YAML grammar."""
    problem, context = error.problem or "", error.context or ""
    if context == "while scanning an alias":
        return 'a name that begins with * must be quoted: "*"'
    if context == "while scanning an anchor":
        return "a name that begins with & must be quoted"
    if "found character '\\t'" in problem:
        return "a tab cannot indent; use spaces"
    if "cannot start any token" in problem:
        character = problem.removeprefix("found character ").removesuffix(" that cannot start any token")
        return f"a value cannot begin with {character}; quote it"
    if context.startswith("while parsing a flow"):
        close, kind = ("]", "list") if "sequence" in context else ("}", "mapping")
        begins = error.context_mark.line + 1 if error.context_mark is not None else 0
        here = "" if error.problem_mark is None or error.problem_mark.line + 1 == begins else f" of line {begins}"
        return f"the {kind} in brackets{here} has no closing {close}, or a comma is missing"
    if context == "while scanning a quoted scalar":
        return "a quoted text begins here and has no closing quote"
    if problem == "mapping values are not allowed here":
        return "a ':' is not expected here; check the indentation above, and quote a text that contains ': '"
    if context in ("while parsing a block mapping", "while parsing a block collection"):
        return "the indentation does not match the lines above; all keys of a mapping start in the same column"
    if context == "while scanning a simple key":
        return "a key has no ':'; write key: value"
    return f"not valid YAML: {', '.join(filter(None, (context, problem)))}"


def _laid_over(node: _Node, base: _Node) -> _Node:
    """``node`` plus the entries that only ``base`` has, at every depth. Lists are not merged."""
    if not (isinstance(node.value, dict) and isinstance(base.value, dict)):
        return base if node.value is None else node
    both = {key: _laid_over(child, base.value[key]) for key, child in node.value.items() if key in base.value}
    return replace(node, value={**base.value, **node.value, **both})


def _assign(node: _Node, path: Sequence[str], value: _Node, file: str) -> "_Node | Problem":
    """A copy of ``node`` with ``value`` at ``path``; nodes off the path are shared."""
    if not path:
        return replace(value, key_line=None)
    head, rest = path[0], path[1:]
    if node.value is None:
        node = _Node({}, file, None)
    if isinstance(node.value, dict):
        below = node.value.get(head, _Node(None, file, None))
        child = _assign(below, rest, value, file)
        if isinstance(child, Problem):
            return replace(child, key=f"{head}.{child.key}" if child.key else head)
        return replace(node, value={**node.value, head: child})
    if isinstance(node.value, list):
        if not head.isdecimal() or int(head) >= len(node.value):
            return Problem(file, None, "", f"is a list of {len(node.value)}; name an index from 0, not {show(head)}")
        index = int(head)
        child = _assign(node.value[index], rest, value, file)
        if isinstance(child, Problem):
            return replace(child, key=f"{head}.{child.key}" if child.key else head)
        return replace(node, value=[*node.value[:index], child, *node.value[index + 1 :]])
    return Problem(file, None, "", f"is {show(node.value)}, which has no key {show(head)}")


# --- writing ----------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Quotes text that `read_yaml` would read as another type. PyYAML follows YAML 1.1, where ``1e3`` is text."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if _scalar(text) == text else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def write_yaml(data: object) -> str:
    """YAML of plain data, for `read_yaml`. Keeps the order; writes each innermost collection on one line."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)


# --- checking ---------------------------------------------------------------------------------------------------------


def validate(document: Document, model: type[ModelT], *, error: type[FileError] = FileError) -> ModelT:
    """``document`` as an instance of ``model``.

    Values are not converted: ``"3"`` is not a number and 3 is not text. But a list may become a tuple, and text a path
    or an enum, as in pydantic's strict JSON mode.

    Raises:
        FileError: an ``error`` with all problems, those found while reading and those of the model.
    """
    value, problems = check(document, model)
    if value is None or document.problems:
        raise error((*document.problems, *problems))
    return value


def check(document: Document, model: type[ModelT], at: KeyPath = ()) -> tuple[ModelT | None, list[Problem]]:
    """The part of ``document`` at ``at`` as an instance of ``model``; or None, and the problems there."""
    if not document.readable:
        return None, []
    data = document.get(at)
    try:
        # We go through JSON because pydantic's strict JSON mode allows a tuple to be written as a list.
        return model.model_validate_json(json.dumps(data), strict=True), []
    except ValidationError as error:
        found: dict[KeyPath, list[_Finding]] = {}
        for detail in error.errors(include_url=False):
            finding, inside = _explain(detail, model, data), detail.get("ctx", {}).get("error")
            if isinstance(inside, WrongInside):
                for path, message in inside.findings:
                    found.setdefault((*finding.path, *path), []).append(_Finding((*finding.path, *path), message))
            else:
                found.setdefault(finding.path, []).append(finding)
        return None, [
            document.problem((*at, *path), _merge(findings) + _quoting(document, (*at, *path), findings))
            for path, findings in found.items()
        ]


def _quoting(document: Document, path: KeyPath, findings: Sequence["_Finding"]) -> str:
    """How to write a value that YAML does not read as text, although it must be text."""
    if {finding.expected for finding in findings} != {"text"} or findings[0].value is None:
        return ""
    key, _, text = document.place(path)[0].removeprefix(_ON_COMMAND_LINE).partition("=")
    if key.strip() != dotted(path):
        return "" if isinstance(findings[0].value, list | dict) else "; put it in quotes"
    quoted = f"{key}={json.dumps(text.strip(), ensure_ascii=False)}"
    return f"; put it in quotes: {_ON_COMMAND_LINE}{shlex.quote(quoted)}"


class WrongInside(ValueError):
    """Raised by a pydantic validator for several wrong values, or for inner values; each is reported at its own place.

    ``findings``: path of each value, relative to the validated one, and what is wrong with it.
    """

    def __init__(self, findings: Iterable[tuple[KeyPath, str]]) -> None:
        self.findings = tuple(findings)
        super().__init__("; ".join(f"{dotted(path)}: {message}" for path, message in self.findings))


@dataclass(frozen=True, slots=True)
class _Finding:
    path: KeyPath
    message: str = ""
    expected: str = ""
    value: Any = None


def _merge(findings: Sequence[_Finding]) -> str:
    """One message for a value; pydantic reports every member of a union that does not match."""
    expected = list(dict.fromkeys(finding.expected for finding in findings if finding.expected))
    if expected:
        if "a number" in expected and "a whole number" in expected:
            expected.remove("a whole number")
        near = ""
        if isinstance(findings[0].value, str):
            near = nearest(findings[0].value, re.findall(r"'([^']*)'", " ".join(expected)))
        return f"must be {' or '.join(expected)}, not {show(findings[0].value)}{near}"
    return "; ".join(dict.fromkeys(finding.message for finding in findings))


_EXPECTED: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "none_required": "left empty",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "union_tag_invalid": "{expected_tags}",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
}
"""pydantic's type of error -> the values that it accepts."""


def _explain(detail: Mapping[str, Any], model: type[BaseModel], data: object) -> _Finding:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    keep_last = kind in ("missing", "extra_forbidden")
    path = _document_path(detail["loc"], data, keep_last=keep_last)
    match kind:
        case "missing":
            field_info = _fields(model, detail["loc"][:-1]).get(str(path[-1]))
            doc = getattr(field_info, "description", None)
            return _Finding(path, f"is missing: {doc}" if doc else "is missing")
        case "extra_forbidden":
            return _Finding(path, unknown("key", str(path[-1]), _fields(model, detail["loc"][:-1])))
        case "union_tag_invalid" | "union_tag_not_found":
            key = context["discriminator"].strip("'")
            tags = context.get("expected_tags") or ", ".join(map(repr, _tags(model, detail["loc"], key)))
            if kind == "union_tag_not_found":
                return _Finding((*path, key), f"is missing: one of {tags}")
            return _Finding((*path, key), expected=_any_of(tags), value=value.get(key))
        case "value_error" | "assertion_error":
            return _Finding(path, str(context["error"]))
        case "too_short":
            return _Finding(path, f"must have at least {context['min_length']} entries, not {context['actual_length']}")
        case "too_long":
            return _Finding(path, f"must have at most {context['max_length']} entries, not {context['actual_length']}")
        case _ if kind in _EXPECTED:
            bounds = {name: f"{bound:g}" if isinstance(bound, float) else bound for name, bound in context.items()}
            return _Finding(path, expected=_any_of(_EXPECTED[kind].format_map(bounds)), value=value)
        case _:
            message = str(detail["msg"])
            return _Finding(path, f"{message[:1].lower()}{message[1:]}, not {show(value)}")


def _any_of(choices: str) -> str:
    """``'a', 'b'`` -> ``'a' or 'b'``. pydantic joins tags with commas, but literals with "or"."""
    if " or " in choices or ", " not in choices:
        return choices
    head, _, last = choices.rpartition(", ")
    return f"{head} or {last}"


def _document_path(loc: Sequence[str | int], data: object, *, keep_last: bool) -> KeyPath:
    """pydantic's location without the names of union members, which are not keys of the document."""
    path: list[str | int] = []
    here: Any = data
    for index, part in enumerate(loc):
        in_mapping = isinstance(here, dict) and part in here
        in_list = isinstance(here, list) and isinstance(part, int) and part < len(here)
        if in_mapping or in_list:
            here = here[part]
            path.append(part)
        elif keep_last and index == len(loc) - 1:
            path.append(part)
    return tuple(path)


def _fields(model: type[BaseModel], loc: Sequence[str | int]) -> Mapping[str, Any]:
    """The fields allowed at pydantic's location ``loc``, by their name in files."""
    return {
        info.alias or name: info
        for candidate in _walk(model, loc)
        if isinstance(candidate, type) and issubclass(candidate, BaseModel)
        for name, info in candidate.model_fields.items()
    }


def _tags(model: type[BaseModel], loc: Sequence[str | int], key: str) -> list[str]:
    members = [member for member in _walk(model, loc) if isinstance(member, type) and issubclass(member, BaseModel)]
    return [str(tag) for member in members for tag in get_args(member.model_fields[key].annotation)]


def _walk(annotation: object, loc: Sequence[str | int]) -> list[object]:
    """The types that an annotation allows at ``loc``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _walk(arguments[0], loc)
    if origin in (Union, UnionType):
        return [found for argument in arguments if argument is not NoneType for found in _walk(argument, loc)]
    if not loc:
        return [annotation]
    head, rest = loc[0], loc[1:]
    if origin is not None and origin is not Literal:
        return [found for argument in arguments if argument is not Ellipsis for found in _walk(argument, rest)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, info in annotation.model_fields.items():
            if head in (name, info.alias):
                return _walk(info.annotation, rest)
            if head in get_args(info.annotation):
                # In pydantic's location of a tagged union the member's tag follows the union's key.
                return _walk(annotation, rest)
    return []


# --- words ------------------------------------------------------------------------------------------------------------


def dotted(path: Sequence[str | int | None]) -> str:
    """A key path as a user would write it: ``objectives[0].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def show(value: object) -> str:
    """A short form of a value, as it would look in a file."""
    match value:
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value if len(value) <= 40 else f"{value[:37]}...")
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return str(value)


def unknown(kind: str, name: str, names: Iterable[str]) -> str:
    """A message for an unknown ``name`` of a ``kind``: the most similar name, and all allowed names."""
    names = list(names)
    known = f"; allowed: {', '.join(names)}" if names else ""
    return f"unknown {kind} {show(name)}{nearest(name, names)}{known}"


def nearest(name: str, names: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"``, or an empty string if no name is similar."""
    by_lower = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""
