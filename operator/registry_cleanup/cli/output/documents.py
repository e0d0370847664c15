"""JSON and YAML: one document, a line of the report in each line, written while it is read.

Their shape is that of docs/schemas/plan.schema.json and report.schema.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

import yaml

from registry_cleanup.cli.output.printed import Printed
from registry_cleanup.domain.report import Line

# So many lines become YAML at a time: its objects take ten times the memory of its text.
_BATCH = 500
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def write_json(printed: Printed, out: TextIO) -> None:
    """Write one JSON object, with `lines` as its last field."""
    head = json.dumps(_head(printed), indent=2, ensure_ascii=False)
    out.write(f'{head.removesuffix("}").rstrip()},\n  "lines": [')
    before = "\n"
    for line in printed.seen():
        out.write(f"{before}    {json.dumps(line, ensure_ascii=False)}")
        before = ",\n"
    out.write("\n  ]\n}\n")


def write_yaml(printed: Printed, out: TextIO) -> None:
    """Write one YAML document, with `lines` as its last field."""
    out.write(_yaml(_head(printed)))
    empty = True
    for batch in _batches(printed.seen()):
        if empty:
            out.write("lines:\n")
            empty = False
        out.write(_yaml(batch))
    if empty:
        out.write("lines: []\n")


def _head(printed: Printed) -> dict[str, Any]:
    document = printed.summary.document()
    if printed.difference is not None:
        document["diff"] = printed.difference.document()
    return document


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    for line in lines:
        batch.append(line)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _yaml(content: Mapping[str, Any] | list[Line]) -> str:
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)
    return text
