"""The JSON schemas that docs/schemas publishes, and outputs that must fit them."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).parent.parent.parent / "docs" / "schemas"


def validate(document: Any, schema: str) -> None:  # noqa: ANN401 - whatever was printed
    """Raise where a document does not fit the schema `docs/schemas/<schema>.schema.json`, or has a field it lacks.

    What is published lets later versions have more fields; ours must have none that nobody described.
    """
    contents = {file.name: json.loads(file.read_text()) for file in FOLDER.glob("*.schema.json")}
    for content in contents.values():
        Draft202012Validator.check_schema(content)
        _close(content)
    known: Registry[Any] = Registry().with_resources(
        (content["$id"], Resource.from_contents(content)) for content in contents.values() if "$id" in content
    )
    formats = Draft202012Validator.FORMAT_CHECKER
    Draft202012Validator(contents[f"{schema}.schema.json"], registry=known, format_checker=formats).validate(document)


def _close(schema: Any) -> None:  # noqa: ANN401 - any part of a schema
    """Let objects have no fields but those that are described."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            _close(part)
