"""YAML documents as kubectl reads them, with the line of each field.

They are built from the parser's events: a composer that calls itself for each level ends the process, not only the
command, at a file of some 50,000 brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from registry_cleanup.cli.files.yaml_scalars import key_text, resolve

# libyaml is ten times faster, and takes tabs in JSON; PyYAML may be installed without it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST = 64
_MOST_VALUES = 200_000
_MERGE = "<<"
_SEPARATOR = re.compile(r"^---(?:[ \t\r].*)?$", re.MULTILINE)
_WHITE = " \t\r"


class Problem(NamedTuple):
    """What is wrong with a file.

    Attributes:
        line: where, from 1; None for the file as a whole.
        path: of the field, such as `spec.rules[0].olderThan`; empty where it is about more.
        message: what is wrong there.
    """

    line: int | None
    path: str
    message: str


class BrokenYAMLError(ValueError):
    """A document that cannot be read; the message says why."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(slots=True)
class Node:
    """A value of a document.

    Attributes:
        line: that it begins on, from 1.
        value: as JSON has it, entries without a value (null) left out of mappings, as an API server does.
        entries: of a mapping, the line of each key, and its value.
        items: of a list.
        size: number of values that it holds, each alias counted in full.
    """

    line: int
    value: Any
    entries: dict[str, tuple[int, Node]] = field(default_factory=dict)
    items: list[Node] = field(default_factory=list)
    size: int = 1

    def line_of(self, path: str) -> int:
        """Return the line of the field at `path`, or of the innermost one above it that is there."""
        node, line, rest = self, self.line, path
        while rest:
            if rest.startswith("["):
                place, _, rest = rest[1:].partition("]")
                if not place.isdecimal() or int(place) >= len(node.items):
                    return line
                node = node.items[int(place)]
                line = node.line
                continue
            rest = rest.removeprefix(".")
            # A key may itself have dots, as labels do: the longest that is there.
            keys = [key for key in node.entries if rest == key or rest.startswith((f"{key}.", f"{key}["))]
            if not keys:
                return line
            key = max(keys, key=len)
            line, node = node.entries[key]
            rest = rest[len(key) :]
        return line


def documents(text: str) -> Iterator[tuple[Node | None, list[Problem]]]:
    """Yield each document of `text` that is not empty, with what is wrong with it.

    A document that cannot be read is None. The others are not lost with it: they are told apart as kubectl does, by
    lines that begin with `---`, before any of them is parsed.
    """
    line = counted = 0
    for separator, begin, end in _parts(text):
        line += text.count("\n", counted, begin)
        counted = begin
        if separator and not separator.startswith("#"):
            yield None, [Problem(line + 1, "", "only a comment may follow --- on its line")]
        else:
            yield from _parsed(text[begin:end], line)


def _parts(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield what follows `---` on its line, and where the text below begins and ends."""
    begin, separator = 0, ""
    for match in _SEPARATOR.finditer(text):
        yield separator, begin, match.start()
        begin, separator = match.end(), match[0][3:].strip()
    yield separator, begin, len(text)


def _parsed(text: str, above: int) -> Iterator[tuple[Node | None, list[Problem]]]:
    """Yield the documents of a part without separators; `above` lines stand before it."""
    builder = _Builder(text, above)
    while True:
        builder.problems = []
        try:
            node = builder.document()
        except BrokenYAMLError as error:
            yield None, [Problem(error.line, "", str(error))]
            return
        if node is None:
            return
        if node.value is not None:
            yield node, builder.problems


class _Builder:
    """Builds nodes from the events of a parser."""

    def __init__(self, text: str, above: int) -> None:
        self.problems: list[Problem] = []
        self._text = text
        self._above = above
        self._events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=_LOADER))
        self._anchors: dict[str, Node | None] = {}

    def document(self) -> Node | None:
        """Return the next document; None after the last."""
        self._anchors = {}
        while not isinstance(event := self._next(), yaml.DocumentStartEvent):
            if isinstance(event, yaml.StreamEndEvent):
                return None
        return self._node(self._next(), "", 0)

    def _next(self) -> yaml.Event:
        try:
            return next(self._events)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line if mark is not None else 0
            raise BrokenYAMLError(self._above + line + 1, self._words(error, line)) from error
        except yaml.reader.ReaderError as error:
            line = self._text.count("\n", 0, error.position) if isinstance(error.position, int) else 0
            raise BrokenYAMLError(
                self._above + line + 1, "holds a control character, which YAML does not allow"
            ) from error

    def _words(self, error: yaml.MarkedYAMLError, line: int) -> str:
        lines = self._text.split("\n")
        shown = lines[line] if line < len(lines) else ""
        if "\t" in shown[: len(shown) - len(shown.lstrip(_WHITE))]:
            return "is indented with a tab; YAML takes spaces only"
        context = f" {error.context}" if error.context else ""
        return f"is not YAML: {error.problem}{context}"

    def _line(self, event: yaml.Event) -> int:
        return self._above + (event.start_mark.line if event.start_mark is not None else 0) + 1

    def _node(self, event: yaml.Event, path: str, depth: int) -> Node:
        if depth > _DEEPEST:
            raise BrokenYAMLError(self._line(event), f"is nested more than {_DEEPEST} levels deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        anchor: str | None = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, yaml.MappingStartEvent):
            node = self._mapping(event, path, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, path, depth)
        else:
            node = Node(self._line(event), self._scalar(event))
        if node.size > _MOST_VALUES:
            raise BrokenYAMLError(node.line, f"holds more than {_MOST_VALUES} values, aliases counted in full")
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _alias(self, event: yaml.AliasEvent) -> Node:
        if event.anchor not in self._anchors:
            raise BrokenYAMLError(self._line(event), f"refers to the anchor {event.anchor!r}, which is not above it")
        node = self._anchors[event.anchor]
        if node is None:
            raise BrokenYAMLError(self._line(event), f"the anchor {event.anchor!r} contains itself")
        return node

    def _scalar(self, event: Any) -> Any:  # noqa: ANN401 - an event without a type, a scalar of JSON
        tag = None if event.tag is None else str(event.tag)
        try:
            return resolve(event.value, tag, plain=event.implicit[0])
        except ValueError as error:
            raise BrokenYAMLError(self._line(event), str(error)) from error

    def _sequence(self, event: yaml.Event, path: str, depth: int) -> Node:
        node = Node(self._line(event), [])
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            item = self._node(event, f"{path}[{len(node.items)}]", depth + 1)
            node.items.append(item)
            node.value.append(item.value)
            node.size += item.size
        return node

    def _mapping(self, event: yaml.Event, path: str, depth: int) -> Node:
        node = Node(self._line(event), {})
        merged: list[Node] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            line = self._line(event)
            merges = isinstance(event, yaml.ScalarEvent) and event.value == _MERGE and event.implicit[0]
            key = _MERGE if merges else self._key(self._node(event, path, depth + 1))
            below = f"{path}.{key}".lstrip(".")
            value = self._node(self._next(), below, depth + 1)
            node.size += value.size
            if merges:
                merged += self._merged(value)
                continue
            if key in node.entries:
                first = node.entries[key][0]
                self.problems.append(Problem(line, below, f"is there twice, first in line {first}; keep one of them"))
            node.entries[key] = (line, value)
        for source in merged:
            for key, entry in source.entries.items():
                node.entries.setdefault(key, entry)
        node.value.update({k: each.value for k, (_, each) in node.entries.items() if each.value is not None})
        return node

    def _key(self, node: Node) -> str:
        if isinstance(node.value, (dict, list)):
            raise BrokenYAMLError(node.line, "has a key that is not a string")
        try:
            return key_text(node.value)
        except ValueError as error:
            raise BrokenYAMLError(node.line, str(error)) from error

    def _merged(self, node: Node) -> list[Node]:
        sources = node.items or [node]
        if not all(isinstance(source.value, dict) for source in sources):
            raise BrokenYAMLError(node.line, "<< takes a mapping, or a list of mappings")
        return sources
