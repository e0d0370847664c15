"""Digest and date of each tag by docker-registry-client-async."""

import asyncio
import json
import sys
from pathlib import Path

from docker_registry_client_async import DockerRegistryClientAsync, FormattedSHA256, ImageName

IN_FLIGHT = 8


async def side_by_side(work, items):
    """Return what `work` makes of each of the items, so many at a time."""
    waiting, done = iter(list(enumerate(items))), {}

    async def worker():
        for number, item in waiting:
            done[number] = await work(item)

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return [done[number] for number in sorted(done)]


async def read(client, host, name):
    """Return tag, digest and date of each tag."""

    async def manifest(image):
        found = (await client.get_manifest(image, protocol="http")).manifest
        return str(found.get_digest()), found.get_json()

    async def date(document):
        if "manifests" in document:
            children = [FormattedSHA256.parse(child["digest"]) for child in document["manifests"]]
            images = [ImageName(name, digest=child, endpoint=host) for child in children]
            return max([await date((await manifest(image))[1]) for image in images])
        digest = FormattedSHA256.parse(document["config"]["digest"])
        answer = await client.get_blob(ImageName(name, endpoint=host), digest, protocol="http")
        return json.loads(answer.blob)["created"]

    listed = await client.get_tags(ImageName(name, endpoint=host), protocol="http")
    tags = listed.tags["tags"]
    found = await side_by_side(manifest, [ImageName(name, tag=tag, endpoint=host) for tag in tags])
    distinct = dict(found)
    dates = dict(zip(distinct, await side_by_side(date, distinct.values()), strict=True))
    return [(tag, digest, dates[digest]) for tag, (digest, _) in zip(tags, found, strict=True)]


async def main(host, result, *names):
    """Read the repositories."""
    async with DockerRegistryClientAsync() as client:
        for name in names:
            for line in await read(client, host, name):
                result.write(f"{name} {' '.join(line)}\n")


if __name__ == "__main__":
    with Path(sys.argv[2]).open("w") as file:
        asyncio.run(main(sys.argv[1], file, *sys.argv[3:]))
