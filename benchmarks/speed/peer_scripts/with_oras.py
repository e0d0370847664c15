"""Digest and date of each tag by oras."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from oras.container import Container
from oras.provider import Registry

IN_FLIGHT = 8
OCI, DOCKER = "application/vnd.oci.image", "application/vnd.docker.distribution.manifest"
ACCEPT = f"{OCI}.manifest.v1+json, {OCI}.index.v1+json, {DOCKER}.v2+json, {DOCKER}.list.v2+json"


def read(registry, place, pool):
    """Yield tag, digest and date of each tag."""

    # get_manifest does not tell the digest.
    def manifest(reference):
        separator = "@" if ":" in reference else ":"
        url = f"{registry.prefix}://{Container(f'{place}{separator}{reference}').manifest_url()}"
        answer = registry.do_request(url, "GET", headers={"Accept": ACCEPT})
        answer.raise_for_status()
        return answer.headers["Docker-Content-Digest"], answer.json()

    def date(document):
        if "manifests" in document:
            return max(date(manifest(child["digest"])[1]) for child in document["manifests"])
        return registry.get_blob(place, document["config"]["digest"]).json()["created"]

    tags = registry.get_tags(place)
    found = list(pool.map(manifest, tags))
    distinct = dict(found)
    dates = dict(zip(distinct, pool.map(date, distinct.values()), strict=True))
    for tag, (digest, _) in zip(tags, found, strict=True):
        yield tag, digest, dates[digest]


def main(host, result, *names):
    """Read the repositories."""
    registry = Registry(host, insecure=True)
    with ThreadPoolExecutor(IN_FLIGHT) as pool, Path(result).open("w") as output:
        for name in names:
            lines = read(registry, f"{host}/{name}", pool)
            output.writelines(f"{name} {' '.join(line)}\n" for line in lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
