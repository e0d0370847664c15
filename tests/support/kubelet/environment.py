"""What a container is told: its variables, and the arguments that name them."""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.kubelet.api import Api, Document, path_of

_MENTION = re.compile(r"\$(\$|\([-._a-zA-Z][-._a-zA-Z0-9]*\))")
_ENTRY = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class NotYetError(Exception):
    """Something that a pod needs is not there; the kubelet looks again later.

    Attributes:
        reason: As the container's status tells it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def environment_of(container: Document, pod: Document, image: Mapping[str, str], api: Api) -> dict[str, str]:
    """Return a container's variables: the image's, then those of `envFrom`, then those of `env`."""
    found = dict(image)
    for source in container.get("envFrom", []):
        for kind, reference in (("configmaps", "configMapRef"), ("secrets", "secretRef")):
            if named := source.get(reference):
                data = await data_of(kind, pod, named, api)
                found |= {source.get("prefix", "") + key: value.decode() for key, value in data.items()}
    for variable in container.get("env", []):
        if "valueFrom" in variable:
            value = await _value_from(variable["valueFrom"], pod, api)
            if value is not None:
                found[variable["name"]] = value
        else:
            found[variable["name"]] = expanded(variable.get("value", ""), found)
    return found


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Put in variables where `$(NAME)` names one that there is."""

    def value(mention: re.Match[str]) -> str:
        if mention[1] == "$":
            return "$"
        return variables.get(mention[1][1:-1], mention[0])

    return _MENTION.sub(value, text)


def command_of(
    container: Document, entrypoint: Sequence[str], arguments: Sequence[str], variables: Mapping[str, str]
) -> list[str]:
    """Return the program and its arguments: a pod's `command` replaces all that the image says."""
    if command := container.get("command"):
        entrypoint, arguments = command, []
    return [expanded(part, variables) for part in (*entrypoint, *(container.get("args") or arguments))]


async def data_of(kind: str, pod: Document, named: Document, api: Api) -> dict[str, bytes]:
    """Return the data of a ConfigMap or Secret of the pod's namespace, empty where it is optional and missing.

    Raises:
        NotYetError: It is not there.
    """
    name = named.get("name") or named["secretName"]
    found = await api.get(path_of(kind, pod["metadata"]["namespace"], name))
    if found is None:
        if named.get("optional"):
            return {}
        raise NotYetError("CreateContainerConfigError", f'{kind[:-1]} "{name}" not found')
    if kind == "secrets":
        return {key: base64.b64decode(value) for key, value in found.get("data", {}).items()}
    text = {key: value.encode() for key, value in found.get("data", {}).items()}
    return text | {key: base64.b64decode(value) for key, value in found.get("binaryData", {}).items()}


def field_of(pod: Document, path: str) -> str:
    """Return a field of the pod as the downward API gives it.

    Raises:
        NotYetError: This kubelet does not know the field.
    """
    if entry := _ENTRY.fullmatch(path):
        return str(pod["metadata"].get(entry[1], {}).get(entry[2], ""))
    found: Any = pod
    for part in path.split("."):
        found = found.get(part, "")
    if isinstance(found, dict):
        return "\n".join(f'{key}="{value}"' for key, value in sorted(found.items()))
    if not isinstance(found, str):
        raise NotYetError("CreateContainerConfigError", f"this test kubelet does not know the field {path}")
    return found


async def _value_from(source: Document, pod: Document, api: Api) -> str | None:
    for kind, reference in (("configmaps", "configMapKeyRef"), ("secrets", "secretKeyRef")):
        if named := source.get(reference):
            data = await data_of(kind, pod, named, api)
            if named["key"] in data:
                return data[named["key"]].decode()
            if named.get("optional"):
                return None
            message = f"couldn't find key {named['key']} in {kind[:-1]} {named['name']}"
            raise NotYetError("CreateContainerConfigError", message)
    if named := source.get("fieldRef"):
        return field_of(pod, named["fieldPath"])
    raise NotYetError("CreateContainerConfigError", f"this test kubelet does not know {', '.join(source)}")
