"""The referrers API of the OCI distribution specification 1.1, which no Distribution has, in front of a real one.

It answers from that registry's own storage: every manifest of a repository whose `subject` is the digest asked for.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.faulty import FaultyRegistry, Forward, Injection
from tests.support.images import OCI_INDEX

_PATH = r"/v2/(?P<repository>.+)/referrers/(?P<digest>[a-z0-9]+:[a-f0-9]+)"
_ROOT = Path("docker/registry/v2")


def offer_referrers(proxy: FaultyRegistry, storage: Path, *, page: int = 100) -> Injection:
    """Let the proxy before the registry with this storage answer `GET /v2/<name>/referrers/<digest>`.

    Args:
        proxy: before the registry.
        storage: of the registry, on the file system.
        page: so many referrers come at once; the others are behind `Link`.
    """

    async def answer(request: web.Request, _forward: Forward) -> web.StreamResponse:
        repository, _, digest = request.path.removeprefix("/v2/").partition("/referrers/")
        found = sorted(_referrers(storage / _ROOT, repository, digest), key=lambda entry: entry["digest"])
        start = int(request.query.get("from", "0"))
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found[start : start + page]}
        headers = {"Content-Type": OCI_INDEX}
        if start + page < len(found):
            headers["Link"] = f'<{request.path}?from={start + page}>; rel="next"'
        return web.Response(body=json.dumps(index).encode(), headers=headers)

    return proxy.inject(answer, method="GET", path=_PATH)


def _referrers(root: Path, repository: str, digest: str) -> Iterator[dict[str, Any]]:
    """Yield the descriptors of what refers to `digest`."""
    for link in (root / "repositories" / repository / "_manifests" / "revisions").glob("*/*/link"):
        algorithm, value = link.read_text().split(":")
        content = (root / "blobs" / algorithm / value[:2] / value / "data").read_bytes()
        manifest = json.loads(content)
        if manifest.get("subject", {}).get("digest") == digest:
            yield _descriptor(content, manifest)


def _descriptor(content: bytes, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a referrer: its artifact type is that of its config where it names none."""
    kind = manifest.get("artifactType") or manifest.get("config", {}).get("mediaType")
    return {
        "mediaType": manifest["mediaType"],
        "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "size": len(content),
        **({"artifactType": kind} if kind else {}),
        **({"annotations": manifest["annotations"]} if "annotations" in manifest else {}),
    }
