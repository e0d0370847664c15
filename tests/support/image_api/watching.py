"""Watches of image streams: every event bears the whole stream. `facts/openshift.md` section 6."""

import asyncio
import json
import time
from collections.abc import Mapping

from aiohttp import web

from tests.support.image_api import refusals
from tests.support.image_api.documents import API_VERSION
from tests.support.image_api.lists import selected
from tests.support.image_api.store import Event, Store

_POLL = 0.02
_DEFAULT_SECONDS = 1800


async def watch(store: Store, request: web.Request, query: Mapping[str, str], namespace: str) -> web.StreamResponse:
    """Tell what changes after a version, until the time is up or the client leaves."""
    if not request.path.endswith("/imagestreams"):
        raise refusals.not_allowed()
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-store"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    since = int(query.get("resourceVersion") or store.version)
    end = time.monotonic() + float(query.get("timeoutSeconds", _DEFAULT_SECONDS))
    while time.monotonic() < end and request.transport is not None and not request.transport.is_closing():
        with store.locked():
            too_old = since < store.compacted
            news = [event for event in store.events if event.version > since]
        if too_old:
            await response.write(_line("ERROR", json.dumps(refusals.expired().body).encode()))
            break
        for event in news:
            since = event.version
            if namespace in {"", event.stream.namespace} and selected([event.stream], query):
                await response.write(_told(event))
        await asyncio.sleep(_POLL)
    await response.write_eof()
    return response


def _told(event: Event) -> bytes:
    kind = json.dumps({"kind": "ImageStream", "apiVersion": API_VERSION}, separators=(",", ":"))
    return _line(event.type, kind[:-1].encode() + b"," + event.stream.encoded[1:])


def _line(type_: str, document: bytes) -> bytes:
    return b'{"type":"' + type_.encode() + b'","object":' + document + b"}\n"
