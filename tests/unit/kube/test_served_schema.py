"""The served CRD against the built-in one: what differs, what does not count, and what nobody could read."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_cleanup.kube.api import APIError, NoAnswerError, NotThereError
from registry_cleanup.kube.built_in import built_in_schema
from registry_cleanup.kube.schema import SCHEMA_PATH, ServedSchema

_CRD = Path(__file__).parents[3] / "crds" / "registrycleanuppolicies.yaml"


def _crd_schema() -> dict[str, Any]:
    schema: dict[str, Any] = yaml.safe_load(_CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _document(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what the API server publishes: the schema, with its own idea of what all kinds have in common."""
    published = copy.deepcopy(schema)
    published["properties"]["metadata"] = {"allOf": [{"$ref": "#/components/schemas/io.k8s…ObjectMeta"}]}
    published["properties"]["kind"] = {"type": "string", "description": "Kind is a string value …"}
    published["x-kubernetes-group-version-kind"] = [{"group": "registrycleanup.dev", "version": "v1alpha1"}]
    return {"components": {"schemas": {"dev.registrycleanup.v1alpha1.RegistryCleanupPolicy": published, "x.Other": {}}}}


@dataclass
class _Server:
    """Publishes a schema; counts how often it was sent, and how often it was asked for."""

    schema: dict[str, Any] = field(default_factory=_crd_schema)
    error: APIError | None = None
    asked: int = 0
    sent: int = 0

    async def read(self, path: str, tag: str | None) -> tuple[dict[str, Any] | None, str | None]:
        assert path == SCHEMA_PATH
        self.asked += 1
        if self.error is not None:
            raise self.error
        now = str(hash(str(self.schema)))
        if tag == now:
            return None, tag
        self.sent += 1
        return _document(self.schema), now


@pytest.fixture
def server() -> _Server:
    return _Server()


@pytest.fixture
def served(server: _Server) -> ServedSchema:
    return ServedSchema(server.read)


def _spec(schema: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = schema["properties"]["spec"]["properties"]
    return properties


async def test_nothing_is_pruned_before_anybody_looked(served: ServedSchema) -> None:
    assert served.problem is not None


async def test_the_shipped_crd_as_an_api_server_publishes_it_is_the_built_in_one(served: ServedSchema) -> None:
    assert await served.look() is None
    assert served.problem is None


def _no_field(schema: dict[str, Any]) -> None:
    del _spec(schema)["untagged"]


def _new_field(schema: dict[str, Any]) -> None:
    _spec(schema)["colour"] = {"type": "string"}


def _other_default(schema: dict[str, Any]) -> None:
    _spec(schema)["dryRun"]["default"] = False


def _no_rule(schema: dict[str, Any]) -> None:
    del schema["properties"]["spec"]["x-kubernetes-validations"]


def _no_status(schema: dict[str, Any]) -> None:
    del schema["properties"]["status"]["properties"]["lastRun"]


def _nothing_required(schema: dict[str, Any]) -> None:
    schema["required"] = []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (_no_field, "spec.untagged, which is missing there"),
        (_new_field, "spec.colour, which is new to this operator"),
        (_other_default, "spec.dryRun.default"),
        (_no_rule, "spec.x-kubernetes-validations, which is missing there"),
        (_no_status, "status.lastRun, which is missing there"),
        (_nothing_required, "required"),
    ],
)
async def test_a_difference_is_named_and_lets_runs_only_plan(
    server: _Server, served: ServedSchema, change: Callable[[dict[str, Any]], None], where: str
) -> None:
    change(server.schema)
    failure = await served.look()
    assert failure is not None
    assert (failure.reason, failure.blocks, failure.mendable) == ("CRDMismatch", True, True)
    assert f"(it differs at {where})" in failure.message
    assert "apply crds/registrycleanuppolicies.yaml" in failure.message


async def test_other_words_for_people_are_no_difference(server: _Server, served: ServedSchema) -> None:
    _spec(server.schema)["untagged"]["description"] = "Said better."
    server.schema["description"] = "Said better, too."
    assert await served.look() is None


async def test_a_field_that_is_called_description_counts(server: _Server, served: ServedSchema) -> None:
    _spec(server.schema)["description"] = {"type": "string"}
    failure = await served.look()
    assert failure is not None
    assert "it differs at spec.description, which is new to this operator" in failure.message


async def test_the_schema_is_sent_again_only_when_it_has_changed(server: _Server, served: ServedSchema) -> None:
    for _ in range(3):
        assert await served.look() is None
    assert (server.asked, server.sent) == (3, 1)
    _no_field(server.schema)
    assert await served.look() is not None
    assert await served.look() is not None
    server.schema = _crd_schema()
    assert await served.look() is None
    assert (server.asked, server.sent) == (6, 3)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotThereError("404"), "is not known (the API server does not publish it (yet))"),
        (NoAnswerError("the API server answers 503"), "is not known (the API server answers 503)"),
    ],
)
async def test_a_schema_that_nobody_can_read_is_a_doubt_until_it_can_be_read(
    server: _Server, served: ServedSchema, error: APIError, words: str
) -> None:
    await served.look()
    server.error = error
    failure = await served.look()
    assert failure is not None
    # Nobody has to mend what may pass.
    assert (failure.reason, failure.blocks, failure.mendable) == ("CRDUnknown", True, False)
    assert words in failure.message
    server.error = None
    assert await served.look() is None


async def test_a_difference_is_in_the_log_once(
    server: _Server, served: ServedSchema, caplog: pytest.LogCaptureFixture
) -> None:
    _no_field(server.schema)
    with caplog.at_level(logging.ERROR):
        await served.look()
        await served.look()
    (line,) = caplog.records
    assert "runs only plan and nothing is pruned" in line.getMessage()


def test_what_is_built_in_is_what_everybody_applies() -> None:
    schema = built_in_schema()
    assert schema["properties"].keys() == {"spec", "status"}
    assert schema["properties"]["spec"]["properties"].keys() == _spec(_crd_schema()).keys()
