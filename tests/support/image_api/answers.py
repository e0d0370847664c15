"""The API's https side: who may speak, which operation a request means, and how its result is written."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import hdrs, web

from tests.support.image_api import operations, refusals
from tests.support.image_api.contents import Document
from tests.support.image_api.discovery import RESOURCE_LIST
from tests.support.image_api.documents import API_VERSION
from tests.support.image_api.faults import ApiRequest, Fault, Faults
from tests.support.image_api.lists import Entry, Lists, encoded_list, selected
from tests.support.image_api.refusals import RefusalError
from tests.support.image_api.store import Store
from tests.support.image_api.streams import Stream
from tests.support.image_api.watching import watch

PREFIX = "/apis/image.openshift.io/v1"
# Who may say in headers for whom it asks: the API server, by its certificate.
_FRONT_PROXY = "front-proxy"
# Theirs is the API server's own interest in the API; a test's faults are not for them.
_OWN_USERS = re.compile(r"system:(aggregator|kube-aggregator)")
_METADATA_ONLY = "as=PartialObjectMetadata"
_META = "meta.k8s.io/v1"

_Result = tuple[int, bytes]
_Answer = Callable[["_Call"], _Result]


class _Call:
    """A request with what its path says."""

    def __init__(self, request: ApiRequest, parts: Mapping[str, str | None]) -> None:
        self.request = request
        self.namespace = parts.get("namespace") or ""
        self.name = parts.get("name") or ""

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query

    @property
    def metadata_only(self) -> bool:
        return _METADATA_ONLY in self.request.accept

    @property
    def body(self) -> Document:
        document: Document = self.request.document
        return document

    @property
    def dry_run(self) -> bool:
        asked = [self.query["dryRun"]] if "dryRun" in self.query else []
        if self.request.method == "DELETE":
            asked += self.body.get("dryRun") or []
        for value in asked:
            if value != "All":
                raise refusals.bad_dry_run(value)
        return bool(asked)

    @property
    def preconditions(self) -> Mapping[str, str]:
        given: Mapping[str, str] = self.body.get("preconditions") or {}
        return given

    def patch(self) -> Document:
        if not self.request.content_type.startswith("application/merge-patch+json"):
            raise refusals.unsupported_media_type("the stand-in for image.openshift.io knows merge patches only")
        return self.body


class Answers:
    """Answers like the aggregated API server of OpenShift.

    What the caller may do is not asked again here: the API server in front does not pass on what its RBAC
    forbids, and nobody else gets in.
    """

    def __init__(self, store: Store, faults: Faults, received: list[ApiRequest]) -> None:
        self._store = store
        self._faults = faults
        self._received = received
        self.lists = Lists()
        one_stream = "namespaces/{namespace}/imagestreams/{name}"
        routes: Mapping[str, Mapping[str, _Answer]] = {
            "": {"GET": lambda _call: _encoded(200, RESOURCE_LIST)},
            "images": {"GET": self._list_images},
            "images/{name}": {"GET": self._get_image, "DELETE": self._delete_image},
            "imagestreams": {"GET": self._list_streams},
            "imagestreamtags": {"GET": self._list_tags},
            "namespaces/{namespace}/imagestreams": {"GET": self._list_streams, "POST": self._create_stream},
            one_stream: {
                "GET": self._get_stream,
                "PUT": partial(self._update, operations.update_spec),
                "PATCH": partial(self._patch, operations.update_spec),
                "DELETE": self._delete_stream,
            },
            f"{one_stream}/status": {
                "GET": self._get_stream,
                "PUT": partial(self._update, operations.update_status),
                "PATCH": partial(self._patch, operations.update_status),
            },
            f"{one_stream}/layers": {"GET": self._layers},
            "namespaces/{namespace}/imagestreamtags": {"GET": self._list_tags},
            "namespaces/{namespace}/imagestreamtags/{name}": {"GET": self._get_tag, "DELETE": self._delete_tag},
            "namespaces/{namespace}/imagestreamimages/{name}": {"GET": self._get_stream_image},
            "namespaces/{namespace}/imagestreammappings": {"POST": self._create_mapping},
        }
        self._routes = [(_pattern(path), answers) for path, answers in routes.items()]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if not _comes_from_the_api_server(request):
            return _refusal_response(refusals.unauthorized())
        asked = await _asked(request)
        if _OWN_USERS.fullmatch(asked.user):
            return await self._carried_out(request, asked)
        self._received.append(asked)
        fault = self._faults.next(asked)
        if fault is None or fault.carried_out:
            await self._faults.run_hooks(asked)
            response = await self._carried_out(request, asked)
            if fault is None:
                return response
        await asyncio.sleep(fault.delay)
        return _fault_response(fault)

    async def _carried_out(self, request: web.Request, asked: ApiRequest) -> web.StreamResponse:
        try:
            found, call = self._route(asked)
            if asked.query.get("watch") in {"true", "1"}:
                return await watch(self._store, request, asked.query, call.namespace)
            if found == self._delete_tag:
                stream = f"{call.namespace}/{call.name.partition(':')[0]}"
                async with self._faults.contention.deletion(stream):
                    return self._response(found, call)
            return self._response(found, call)
        except RefusalError as refusal:
            return _refusal_response(refusal)

    def _route(self, asked: ApiRequest) -> tuple[_Answer, _Call]:
        for pattern, answers in self._routes:
            if (found := pattern.fullmatch(asked.path)) is not None:
                if asked.method not in answers:
                    raise refusals.not_allowed()
                return answers[asked.method], _Call(asked, found.groupdict())
        raise refusals.no_such_resource()

    def _response(self, answer: _Answer, call: _Call) -> web.Response:
        with self._store.locked():
            status, body = answer(call)
        return _json_response(status, body)

    # Streams

    def _list_streams(self, call: _Call) -> _Result:
        only = call.metadata_only

        def entries() -> list[Entry]:
            encode = _encoded_metadata if only else _encoded_stream
            return [(_key(stream), partial(encode, stream)) for stream in self._selected(call)]

        kind = "PartialObjectMetadataList" if only else "ImageStreamList"
        page = self.lists.page(kind, entries, self._store.version, call.query)
        return 200, encoded_list(kind, page, _META if only else API_VERSION)

    def _selected(self, call: _Call) -> list[Stream]:
        streams = [stream for stream in self._store.streams.values() if call.namespace in {"", stream.namespace}]
        return sorted(selected(streams, call.query), key=_key)

    def _get_stream(self, call: _Call) -> _Result:
        return self._alone(call, self._store.stream(call.namespace, call.name))

    def _alone(self, call: _Call, stream: Stream, status: int = 200) -> _Result:
        if call.metadata_only:
            return status, _encoded_metadata(stream)
        return status, stream.encoded_alone

    def _create_stream(self, call: _Call) -> _Result:
        created = operations.create_stream(self._store, call.namespace, call.body, dry_run=call.dry_run)
        return self._alone(call, created, 201)

    def _update(self, operation: "_Update", call: _Call) -> _Result:
        changed = operation(self._store, call.namespace, call.name, call.body, dry_run=call.dry_run)
        return self._alone(call, changed)

    def _patch(self, operation: "_Update", call: _Call) -> _Result:
        body = operations.patched(self._store, call.namespace, call.name, call.patch())
        return self._alone(call, operation(self._store, call.namespace, call.name, body, dry_run=call.dry_run))

    def _delete_stream(self, call: _Call) -> _Result:
        return _encoded(
            200,
            operations.delete_stream(self._store, call.namespace, call.name, call.preconditions, dry_run=call.dry_run),
        )

    def _layers(self, call: _Call) -> _Result:
        return _encoded(200, operations.layers(self._store, call.namespace, call.name))

    # Tags of streams

    def _get_tag(self, call: _Call) -> _Result:
        return _encoded(200, operations.get_tag(self._store, call.namespace, call.name))

    def _list_tags(self, call: _Call) -> _Result:
        # Section 6: a limit counts streams here, and nothing tells that there are more.
        limit = int(call.query.get("limit", "0")) or None
        items = [item for stream in self._selected(call)[:limit] for item in operations.list_tags(stream)]
        body = {"kind": "ImageStreamTagList", "apiVersion": API_VERSION, "metadata": {}, "items": items}
        return _encoded(200, body)

    def _delete_tag(self, call: _Call) -> _Result:
        return _encoded(
            200,
            operations.delete_tag(self._store, call.namespace, call.name, call.preconditions, dry_run=call.dry_run),
        )

    # Images

    def _list_images(self, call: _Call) -> _Result:
        def entries() -> list[Entry]:
            images = sorted(self._store.images.items())
            return [(digest, partial(_bytes, image)) for digest, image in images]

        page = self.lists.page("ImageList", entries, self._store.version, call.query)
        return 200, encoded_list("ImageList", page)

    def _get_image(self, call: _Call) -> _Result:
        image = self._store.image(call.name)
        return _encoded(200, {"kind": "Image", "apiVersion": API_VERSION, **image})

    def _delete_image(self, call: _Call) -> _Result:
        return _encoded(200, operations.delete_image(self._store, call.name, dry_run=call.dry_run))

    def _get_stream_image(self, call: _Call) -> _Result:
        return _encoded(200, operations.get_stream_image(self._store, call.namespace, call.name))

    def _create_mapping(self, call: _Call) -> _Result:
        body = operations.create_mapping(self._store, call.namespace, call.body, dry_run=call.dry_run)
        return _encoded(201, body)


_Update = Callable[..., Stream]
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _comes_from_the_api_server(request: web.Request) -> bool:
    certificate = request.get_extra_info("peercert") or {}
    subject = {key: value for part in certificate.get("subject", ()) for key, value in part}
    return subject.get("commonName") == _FRONT_PROXY


async def _asked(request: web.Request) -> ApiRequest:
    return ApiRequest(
        method=request.method,
        path=request.path,
        query=dict(request.query),
        user=request.headers.get("X-Remote-User", ""),
        groups=tuple(request.headers.getall("X-Remote-Group", [])),
        accept=request.headers.get(hdrs.ACCEPT, ""),
        content_type=request.headers.get(hdrs.CONTENT_TYPE, ""),
        body=await request.read(),
    )


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(f"{PREFIX}/{path}".rstrip("/").replace("{", "(?P<").replace("}", ">[^/]*)"))


def _key(stream: Stream) -> str:
    return f"{stream.namespace}/{stream.name}"


def _encoded_stream(stream: Stream) -> bytes:
    return stream.encoded


def _encoded_metadata(stream: Stream) -> bytes:
    return _bytes({"kind": "PartialObjectMetadata", "apiVersion": _META, "metadata": stream.metadata})


def _bytes(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _encoded(status: int, document: Mapping[str, Any]) -> _Result:
    return status, _bytes(document)


def _json_response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    # The API server in front adds another Cache-Control.
    given = {hdrs.CACHE_CONTROL: "no-store", **(headers or {})}
    return web.Response(status=status, body=body + b"\n", content_type="application/json", headers=given)


def _refusal_response(refusal: RefusalError) -> web.Response:
    return _json_response(refusal.status, _bytes(refusal.body), refusal.headers)


def _fault_response(fault: Fault) -> web.Response:
    if isinstance(fault.body, str):
        return web.Response(status=fault.status, text=fault.body, headers=dict(fault.headers))
    return _json_response(fault.status, _bytes(fault.body), fault.headers)
