"""Digest and date of each tag by python-dxf."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dxf import DXF

IN_FLIGHT = 8


def read(repository, pool):
    """Yield tag, digest and date of each tag."""

    def manifest(reference):
        text, response = repository.get_manifest_and_response(reference)
        return response.headers["Docker-Content-Digest"], json.loads(text)

    def date(document):
        if "manifests" in document:
            return max(date(manifest(child["digest"])[1]) for child in document["manifests"])
        return json.loads(b"".join(repository.pull_blob(document["config"]["digest"])))["created"]

    tags = repository.list_aliases()
    found = list(pool.map(manifest, tags))
    distinct = dict(found)
    dates = dict(zip(distinct, pool.map(date, distinct.values()), strict=True))
    for tag, (digest, _) in zip(tags, found, strict=True):
        yield tag, digest, dates[digest]


def main(host, result, *names):
    """Read the repositories."""
    with ThreadPoolExecutor(IN_FLIGHT) as pool, Path(result).open("w") as output:
        for name in names:
            with DXF(host, name, insecure=True) as repository:
                output.writelines(f"{name} {' '.join(line)}\n" for line in read(repository, pool))


if __name__ == "__main__":
    main(*sys.argv[1:])
