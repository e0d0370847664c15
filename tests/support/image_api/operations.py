"""What requests do to the store; each runs under its lock, and refuses by raising `RefusalError`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from tests.support.image_api import refusals
from tests.support.image_api.contents import Document
from tests.support.image_api.documents import API_VERSION, SUCCESS, bare_image
from tests.support.image_api.store import Store, now
from tests.support.image_api.streams import Stream

_Metadata = Mapping[str, Any]


# Streams


def create_stream(store: Store, namespace: str, body: Document, *, dry_run: bool = False) -> Stream:
    name = body.get("metadata", {}).get("name", "")
    if (namespace, name) in store.streams:
        raise refusals.already_exists("imagestreams", name)
    fresh = _with_metadata(Stream(namespace, name, store.host, now()), body)
    stream = replace(_with_spec(store, fresh, body), generation=1)
    return stream if dry_run else store.put(stream)


def update_spec(store: Store, namespace: str, name: str, body: Document, *, dry_run: bool = False) -> Stream:
    """Carry out a PUT of a stream: its labels, annotations and spec, never its status."""
    return _update(store, namespace, name, body, lambda stream: _with_spec(store, stream, body), dry_run=dry_run)


def update_status(store: Store, namespace: str, name: str, body: Document, *, dry_run: bool = False) -> Stream:
    """Carry out a PUT of a stream's status; section 7: it may change labels, annotations and lookupPolicy too."""

    def change(stream: Stream) -> Stream:
        local = bool(body.get("spec", {}).get("lookupPolicy", {}).get("local", stream.local_lookup))
        changed = stream.with_status(body.get("status", {}).get("tags") or [])
        return replace(changed, local_lookup=local)

    return _update(store, namespace, name, body, change, dry_run=dry_run)


def _update(
    store: Store, namespace: str, name: str, body: Document, change: Callable[[Stream], Stream], *, dry_run: bool
) -> Stream:
    stream = store.stream(namespace, name)
    metadata: _Metadata = body.get("metadata", {})
    if (metadata.get("name", name), metadata.get("namespace", namespace)) != (name, namespace):
        raise refusals.bad_request("the name of the object does not match the name on the URL")
    if not metadata.get("resourceVersion"):
        raise refusals.no_resource_version(name)
    if metadata.get("uid", stream.uid) != stream.uid:
        raise _wrong_uid("imagestreams", name, metadata["uid"], stream)
    if metadata["resourceVersion"] != str(stream.resource_version):
        raise refusals.modified(name)
    changed = change(_with_metadata(stream, body))
    return changed if dry_run else store.put(changed)


def patched(store: Store, namespace: str, name: str, patch: Document) -> Document:
    """Return what a merge patch makes of a stream, to be handed to one of the updates."""
    stream = store.stream(namespace, name)
    uid = patch.get("metadata", {}).get("uid", stream.uid)
    if uid != stream.uid:
        raise refusals.immutable_uid(name)
    merged: Document = _merged(json.loads(stream.encoded), patch)
    return merged


def _merged(target: Any, patch: Any) -> Any:  # noqa: ANN401 - any JSON, RFC 7386
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _with_metadata(stream: Stream, body: Document) -> Stream:
    metadata: _Metadata = body.get("metadata", {})
    return replace(stream, labels=metadata.get("labels") or {}, annotations=metadata.get("annotations") or {})


def _with_spec(store: Store, stream: Stream, body: Document) -> Stream:
    spec = body.get("spec") or {}
    local = bool(spec.get("lookupPolicy", {}).get("local"))
    return stream.with_spec(store.current_item, spec.get("tags") or [], local_lookup=local)


def delete_stream(
    store: Store, namespace: str, name: str, preconditions: Mapping[str, str], *, dry_run: bool = False
) -> Document:
    stream = store.stream(namespace, name)
    if preconditions.get("uid", stream.uid) != stream.uid:
        raise _wrong_uid("imagestreams", name, preconditions["uid"], stream)
    version = preconditions.get("resourceVersion")
    if version not in {None, str(stream.resource_version)}:
        why = f"Precondition failed: ResourceVersion in precondition: {version}, in object meta: "
        raise refusals.conflict("imagestreams", name, f"{why}{stream.resource_version}")
    if not dry_run:
        store.remove(stream)
    return {**SUCCESS, "details": {"name": name, "group": refusals.GROUP, "kind": "imagestreams", "uid": stream.uid}}


def _wrong_uid(resource: str, name: str, given: str, stream: Stream) -> refusals.RefusalError:
    why = f"Precondition failed: UID in precondition: {given}, UID in object meta: {stream.uid}"
    return refusals.conflict(resource, name, why)


# Tags of streams


def tag_parts(name: str) -> tuple[str, str]:
    stream, colon, tag = name.partition(":")
    if not (stream and colon and tag) or ":" in tag:
        raise refusals.bad_request("ImageStreamTags must be retrieved with <name>:<tag>")
    return stream, tag


def get_tag(store: Store, namespace: str, name: str) -> Document:
    stream_name, tag = tag_parts(name)
    stream = store.stream(namespace, stream_name, asked_for="imagestreamtags")
    item = stream.current(tag)
    if item is None:
        raise refusals.not_found("imagestreamtags", name)
    image = store.image(item["image"], asked_for="imagestreamtags")
    return {"kind": "ImageStreamTag", "apiVersion": API_VERSION, **_tag_document(stream, tag, item, image)}


def list_tags(stream: Stream) -> list[Document]:
    return [
        _tag_document(stream, tag, item, bare_image(item))
        for tag in sorted(stream.status_tags)
        if (item := stream.current(tag)) is not None
    ]


def _tag_document(stream: Stream, tag: str, item: Document, image: Document) -> Document:
    spec = stream.spec_tags.get(tag)
    metadata = {
        "name": f"{stream.name}:{tag}",
        "namespace": stream.namespace,
        "uid": stream.uid,
        "resourceVersion": str(stream.resource_version),
        "creationTimestamp": item["created"],
        **({"labels": dict(stream.labels)} if stream.labels else {}),
        **({"annotations": spec["annotations"]} if spec and spec["annotations"] else {}),
    }
    lookup = {"local": stream.local_lookup}
    return {
        "metadata": metadata,
        "tag": spec,
        "generation": item["generation"],
        "lookupPolicy": lookup,
        "image": image,
    }


def delete_tag(
    store: Store, namespace: str, name: str, preconditions: Mapping[str, str], *, dry_run: bool = False
) -> Document:
    """Carry out section 5: of the preconditions only the uid counts, which is the stream's."""
    stream_name, tag = tag_parts(name)
    stream = store.stream(namespace, stream_name, asked_for="imagestreamtags")
    if preconditions.get("uid", stream.uid) != stream.uid:
        raise refusals.conflict("imagestreamtags", name, "the UID precondition was not met")
    changed = stream.without_tag(tag)
    if changed is None:
        raise refusals.not_found("imagestreamtags", name)
    if not dry_run:
        store.put(changed)
    return dict(SUCCESS)


# Images


def get_stream_image(store: Store, namespace: str, name: str) -> Document:
    stream_name, at, digest = name.partition("@")
    if not (stream_name and at and digest):
        raise refusals.bad_request("ImageStreamImages must be retrieved with <name>@<id>")
    stream = store.stream(namespace, stream_name, asked_for="imagestreamimages")
    named = stream.history_digests()
    known = named.union(*(store.children(index) for index in named))
    found = sorted(one for one in known if one.startswith((digest, f"sha256:{digest}")))
    if len(found) != 1:
        raise refusals.not_found("imagestreamimage", name)
    image = store.image(found[0], asked_for="imagestreamimages")
    metadata = {
        "name": f"{stream_name}@{found[0]}",
        "namespace": namespace,
        "uid": stream.uid,
        "resourceVersion": str(stream.resource_version),
        "creationTimestamp": image["metadata"]["creationTimestamp"],
    }
    return {"kind": "ImageStreamImage", "apiVersion": API_VERSION, "metadata": metadata, "image": image}


def delete_image(store: Store, digest: str, *, dry_run: bool = False) -> Document:
    image = store.image(digest)
    if not dry_run:
        del store.images[digest]
    details = {"name": digest, "group": refusals.GROUP, "kind": "images", "uid": image["metadata"]["uid"]}
    return {**SUCCESS, "details": details}


def create_mapping(store: Store, namespace: str, body: Document, *, dry_run: bool = False) -> Document:
    """Let a tag name an Image, as the registry does at the end of a push."""
    stream = store.stream(namespace, body["metadata"]["name"], asked_for="imagestreams")
    if not dry_run:
        store.adopt_image(body["image"])
        moment: datetime = now()
        reference = body["image"].get("dockerImageReference", "")
        store.tag(stream, body["tag"], body["image"]["metadata"]["name"], reference, moment)
    return dict(SUCCESS)


def layers(store: Store, namespace: str, name: str) -> Document:
    """Return all blobs and images of a stream's histories, the children of indexes among them."""
    stream = store.stream(namespace, name)
    named = stream.history_digests()
    blobs: Document = {}
    images: Document = {}
    for digest in sorted(named.union(*(store.children(index) for index in named))):
        image = store.images.get(digest)
        if image is None:
            images[digest] = {"imageMissing": True, "layers": None}
            continue
        blobs[digest] = {"size": None, "mediaType": image.get("dockerImageManifestMediaType", "")}
        of_image = image.get("dockerImageLayers") or []
        images[digest] = {"layers": [layer["name"] for layer in of_image] or None}
        for layer in of_image:
            blobs[layer["name"]] = {"size": layer["size"], "mediaType": layer["mediaType"]}
        content = store.contents.get(digest)
        if content is not None and content.config:
            described = content.manifest["config"]
            images[digest]["config"] = described["digest"]
            blobs[described["digest"]] = {"size": described["size"], "mediaType": described["mediaType"]}
    metadata = stream.metadata
    return {
        "kind": "ImageStreamLayers",
        "apiVersion": API_VERSION,
        "metadata": metadata,
        "blobs": blobs,
        "images": images,
    }
