"""A pod's volumes as folders of this machine."""

import asyncio
from pathlib import Path

from tests.support.kubelet.api import Api, Document, path_of
from tests.support.kubelet.containers import Mount
from tests.support.kubelet.environment import NotYetError, data_of, field_of

_PENDING = "ContainerCreating"
_HOUR = 3600


async def volumes_of(pod: Document, folder: Path, api: Api) -> dict[str, Path]:
    """Return the folder of each volume, made in `folder` unless it is a lasting one.

    Raises:
        NotYetError: One cannot be had, or not yet.
    """
    return {
        volume["name"]: await _volume(volume, pod, folder / volume["name"], api)
        for volume in pod["spec"].get("volumes", [])
    }


async def _volume(volume: Document, pod: Document, folder: Path, api: Api) -> Path:
    match volume:
        case {"hostPath": source}:
            return _host_path(source)
        case {"persistentVolumeClaim": source}:
            return await claimed(pod["metadata"]["namespace"], source["claimName"], api)
        case {"projected": source}:
            for part in source.get("sources", []):
                await _project(part, pod, folder, api)
        case {"emptyDir": _}:
            await asyncio.to_thread(_write, {}, folder)
        case _:
            await _project(volume, pod, folder, api)
    return folder


def _host_path(source: Document) -> Path:
    path = Path(source["path"])
    if source.get("type") == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        raise NotYetError(_PENDING, f"hostPath: {path} is not there")
    return path


async def claimed(namespace: str, claim: str, api: Api) -> Path:
    """Return the folder of a claim's volume.

    Raises:
        NotYetError: The claim is not bound, or its volume is no folder of this machine.
    """
    found = await api.get(path_of("persistentvolumeclaims", namespace, claim))
    if found is None or found.get("status", {}).get("phase") != "Bound":
        raise NotYetError(_PENDING, f"claim {claim} is not bound")
    volume = await api.get(f"/api/v1/persistentvolumes/{found['spec']['volumeName']}")
    match (volume or {}).get("spec"):
        case {"hostPath": source} | {"local": source}:
            return _host_path({"type": "DirectoryOrCreate", **source})
        case _:
            pass
    raise NotYetError(_PENDING, f"the volume of claim {claim} is no folder of this machine")


async def _project(source: Document, pod: Document, folder: Path, api: Api) -> None:
    match source:
        case {"configMap": named}:
            files = await _picked("configmaps", named, pod, api)
        case {"secret": named}:
            files = await _picked("secrets", named, pod, api)
        case {"downwardAPI": named}:
            items = named.get("items", [])
            files = {item["path"]: field_of(pod, item["fieldRef"]["fieldPath"]).encode() for item in items}
        case {"serviceAccountToken": named}:
            files = {named["path"]: await _token(named, pod, api)}
        case _:
            raise NotYetError(_PENDING, f"this test kubelet does not know the volume {source}")
    await asyncio.to_thread(_write, files, folder)


async def _picked(kind: str, named: Document, pod: Document, api: Api) -> dict[str, bytes]:
    try:
        data = await data_of(kind, pod, named, api)
    except NotYetError as error:
        raise NotYetError(_PENDING, str(error)) from error
    if "items" not in named:
        return data
    missing = [item["key"] for item in named["items"] if item["key"] not in data]
    if missing and not named.get("optional"):
        raise NotYetError(_PENDING, f"references non-existent {kind[:-1]} key: {', '.join(missing)}")
    return {item["path"]: data[item["key"]] for item in named["items"] if item["key"] in data}


async def _token(named: Document, pod: Document, api: Api) -> bytes:
    metadata = pod["metadata"]
    bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    spec = {"expirationSeconds": named.get("expirationSeconds", _HOUR), "boundObjectRef": bound}
    if "audience" in named:
        spec["audiences"] = [named["audience"]]
    account = pod["spec"].get("serviceAccountName") or "default"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    granted = await api.create(f"{path_of('serviceaccounts', metadata['namespace'], account)}/token", request)
    if granted is None:
        raise NotYetError(_PENDING, f"no token for the service account {account}")
    token: str = granted["status"]["token"]
    return token.encode()


def _write(files: dict[str, bytes], folder: Path) -> None:
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)


def mounts_of(container: Document, volumes: dict[str, Path]) -> list[Mount]:
    """Return what a container sees of the volumes, a folder before what lies in it."""
    found = []
    for mount in container.get("volumeMounts", []):
        source = volumes[mount["name"]]
        if part := mount.get("subPath"):
            source = source / part
            if not source.exists():
                source.mkdir(parents=True)
        found.append(Mount(str(source), mount["mountPath"].rstrip("/"), mount.get("readOnly", False)))
    return sorted(found, key=lambda mount: mount.target.count("/"))
