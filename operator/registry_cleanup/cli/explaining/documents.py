"""An explanation as a document for programs; docs/schemas/explain.schema.json describes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from registry_cleanup.cli.explaining.work import Found
from registry_cleanup.domain.duration import duration_text
from registry_cleanup.domain.explanation import Explanation
from registry_cleanup.domain.in_use import User
from registry_cleanup.domain.policy import TagPattern
from registry_cleanup.domain.what_ifs import WhatIf

_UNDERLINED = re.compile(r"_([a-z])")
# Told in the words of the report's line, or in another form.
_ELSEWHERE = {"tag", "verdict", "line", "what_ifs", "digest", "users", "rivals", "subject"}


def as_document(found: Found) -> dict[str, Any]:
    """Return all that was found, as JSON has it."""
    policy = found.policy
    document: dict[str, Any] = {
        "apiVersion": "cli.registrycleanup.dev/v1",
        "kind": "Explanation",
        "policy": {
            "namespace": policy.namespace,
            "name": policy.name,
            "dryRun": policy.dry_run,
            "suspended": policy.suspend,
            "approvalRequired": policy.policy.approval_required,
            "gracePeriod": duration_text(policy.policy.grace_period),
        },
        "repository": found.reference.repository,
        "selection": _plain(found.selection),
        "tags": [_tag(told) for told in found.tags],
    }
    if found.reference.digest is not None:
        document["digest"] = found.reference.digest
    if found.examined is None or found.known is None:
        return document
    document["registry"] = found.examined.host
    document["generatedAt"] = found.known.now.isoformat()
    document["unit"] = found.known.unit.value
    document["publishedKnown"] = found.published is not None
    if (digest := found.reference.digest) is not None:
        manifests = found.known.inventory.manifests
        document["present"] = found.present
        document["parents"] = sorted(m.digest for m in manifests.values() if digest in m.children)
    return document


def _tag(told: Explanation) -> dict[str, Any]:
    line = {key: value for key, value in told.line.items() if key not in {"type", "repository", "moreUsers"}}
    document = {"tag": told.tag, "verdict": "Absent", **line}
    if told.digest is not None:
        document["digest"] = told.digest
    for each in fields(told):
        value = getattr(told, each.name)
        if each.name not in _ELSEWHERE and value is not None:
            document[_camel(each.name)] = _plain(value)
    document["users"] = [str(user) for user in told.users]
    document["rivals"] = [
        {
            "namespace": rival.namespace,
            "name": rival.name,
            "older": rival.older,
            "keepTags": [pattern.text for pattern in rival.keep_tags],
        }
        for rival in told.rivals
    ]
    if told.subject is not None:
        document["refersTo"] = _plain(told.subject)  # the report's line has `subject`, which is no more than a digest
    document["whatIfs"] = [_what_if(each) for each in told.what_ifs]
    return document


def _what_if(what_if: WhatIf) -> dict[str, Any]:
    return {
        "verdict": "Prune" if what_if.goes else "Keep",
        "text": str(what_if),
        "changes": [
            {key: value for key, value in _plain(change).items() if key != "apply"} for change in what_if.changes
        ],
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever the fields of an explanation hold
    """Return a value as JSON has it; of dataclasses what is None is left out."""
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return duration_text(value)
        case Enum():
            return value.value
        case User():
            return str(value)
        case TagPattern():
            return value.text
        case Mapping():
            return {key: _plain(each) for key, each in value.items()}
        case tuple() | list():
            return [_plain(each) for each in value]
        case _ if is_dataclass(value):
            parts = ((each.name, getattr(value, each.name)) for each in fields(value))
            return {_camel(name): _plain(part) for name, part in parts if part is not None and not callable(part)}
        case _:
            return value


def _camel(name: str) -> str:
    return _UNDERLINED.sub(lambda match: match[1].upper(), name)
