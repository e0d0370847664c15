"""A small JSONPath: dotted fields, `['key']`, `[n]` and `[*]`, such as `.spec.template.spec.containers[*].image`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

# A field, one in brackets and quotes, or all or one of a list.
_STEP = re.compile(
    r"""\.(?P<field>[A-Za-z_][A-Za-z0-9_-]*)
    |\[(?:'(?P<single>[^'\\]+)'|"(?P<double>[^"\\]+)")\]
    |\.?\[(?P<all>\*)\]|(?P<wild>\.\*)
    |\[(?P<number>[0-9]{1,6})\]""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _All:
    """Every element of a list, or every value of an object."""


_ALL = _All()


@dataclass(frozen=True, slots=True)
class JSONPath:
    """A parsed path."""

    steps: tuple[str | int | _All, ...]

    @classmethod
    def parse(cls, text: str) -> JSONPath:
        """Parse `text`, which may stand in braces and begin with `$`; raise `ValueError` that says what is wrong."""
        rest = text.strip()
        if rest.startswith("{") and rest.endswith("}"):
            rest = rest[1:-1].strip()
        rest = rest.removeprefix("$")
        if not rest:
            raise ValueError("is empty; write for example '.spec.template.spec.containers[*].image'")
        steps: list[str | int | _All] = []
        while rest:
            match = _STEP.match(rest)
            if match is None:
                raise ValueError(
                    f"cannot be read from {rest[:40]!r} on; it may have fields after a dot, ['key'], [number] and [*]"
                )
            field = match["field"] or match["single"] or match["double"]
            steps.append(field if field is not None else int(match["number"]) if match["number"] is not None else _ALL)
            rest = rest[match.end() :]
        return cls(tuple(steps))

    def texts(self, document: object) -> Iterator[str]:
        """Yield the texts that the path leads to; other values, and empty ones, are no image."""
        found: Iterable[object] = (document,)
        for step in self.steps:
            found = _next(found, step)
        for each in found:
            if isinstance(each, str) and each:
                yield each


def _next(values: Iterable[object], step: str | int | _All) -> Iterator[object]:
    for value in values:
        match step:
            case str():
                if isinstance(value, Mapping) and step in value:
                    yield value[step]
            case int():
                if isinstance(value, list) and step < len(value):
                    yield value[step]
            case _:
                if isinstance(value, list):
                    yield from value
                elif isinstance(value, Mapping):
                    yield from value.values()
