"""Puts the page together: markup, style, script and data in one file that allows itself nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from string import Template
from typing import Any

from registry_cleanup.cli.page import summary
from registry_cleanup.cli.page.contents import gather
from registry_cleanup.cli.page.words import OUTCOMES, REASONS

# In the order in which the browser reads them; all share one scope.
_SCRIPTS = (
    "words.js",
    "data.js",
    "filter.js",
    "layout.js",
    "draw.js",
    "card.js",
    "timelines.js",
    "table.js",
    "start.js",
)


def render_page(
    lines: Iterable[Mapping[str, Any]],
    *,
    policy: str | None = None,
    message: str | None = None,
    held_back: Sequence[str] = (),
    prunable_from: datetime | None = None,
) -> str:
    """Return the page that shows a report.

    Args:
        lines: of the report, as `domain.report.read_report` yields them.
        policy: its namespace and name; without it the UID is shown, which the report has.
        message: what the run says of itself, parts parted by semicolons.
        held_back: what would keep the operator from pruning, whatever the plan.
        prunable_from: when the first of the tags that wait for their grace period may go.

    Raises:
        ValueError: the lines do not begin with a line `run`.
    """
    contents = gather(lines)
    style = _read("page.css")
    script = '"use strict";\n' + "\n".join(_read(name) for name in _SCRIPTS)
    data = {
        "generatedAt": int(datetime.fromisoformat(contents.head["generatedAt"]).timestamp()),
        "prunableFrom": int(prunable_from.timestamp()) if prunable_from is not None else None,
        "tried": contents.tried,
        "reasons": REASONS,
        "outcomes": OUTCOMES,
        **contents.columns(),
    }
    return Template(_read("page.html")).substitute(
        summary.parts(contents, policy, message, held_back, prunable_from),
        style_hash=_hash(style),
        script_hash=_hash(script),
        style=style,
        script=script,
        data=_json(data),
    )


def _read(name: str) -> str:
    return (files(__package__) / "parts" / name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: Mapping[str, Any]) -> str:
    """Return JSON that cannot end the element that holds it: in JSON, `<` stands in strings alone."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
