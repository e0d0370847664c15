"""Copies in ConfigMaps that the policy owns, for policies that prune little and name no repository for them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from typing_extensions import override

from registry_cleanup.domain.copies import COPY_TOO_LARGE, copy_name, parse_copy_name
from registry_cleanup.domain.run import Failure
from registry_cleanup.kube.config_maps import PART_BYTES, OwnedConfigMaps, binary
from registry_cleanup.ports import CopyStore, RunError

# Together some thousands of manifests: etcd holds all of the cluster in a few gigabytes.
_MOST = 8
_FULL = Failure(
    "CopiesFull",
    f"the copies in ConfigMaps take {_MOST} times {PART_BYTES // 1024} KiB, and there is no room for more before "
    "undo.window is over: shorten undo.window, or, but for OpenShift, name a repository of the registry in "
    "spec.undo.repository",
    mendable=True,
)
_TOO_LARGE = Failure(
    COPY_TOO_LARGE,
    f"a manifest takes more than {PART_BYTES // 1024} KiB, which no ConfigMap holds: name a repository of the registry "
    "in spec.undo.repository",
    mendable=True,
)


class ConfigMapCopies(CopyStore):
    """The copies of one policy: each ConfigMap holds several parts, under their names."""

    def __init__(self, maps: OwnedConfigMaps, uid: str) -> None:
        """Keep copies in `maps` of the policy with this UID."""
        self._maps = maps
        self._uid = uid
        self._seen: dict[str, int] = {}

    @property
    @override
    def most_bytes(self) -> int:
        return PART_BYTES // 2

    @override
    async def write(self, run: str, part: int, content: bytes) -> bytes:
        if len(content) > PART_BYTES:
            raise RunError(_TOO_LARGE)
        name = copy_name(run, part, self._uid)
        async with self._maps.explained():
            for number in range(_MOST):
                parts = await self._parts(number)
                if sum(map(len, parts.values())) + len(content) > PART_BYTES:
                    continue
                await self._maps.write(self._name(number), {**parts, name: content}, {})
                served = (await self._parts(number)).get(name)
                if served is None:
                    raise RunError(Failure("NotStored", "the API server took a copy, and does not serve it"))
                return served
        raise RunError(_FULL)

    @override
    async def runs(self) -> Sequence[str]:
        return sorted({run for run, _ in await self._all()})

    @override
    async def numbers(self, run: str) -> Sequence[int]:
        return sorted(part for of, part in await self._all() if of == run)

    @override
    async def read(self, run: str, part: int) -> bytes | None:
        name = copy_name(run, part, self._uid)
        async with self._maps.explained():
            # First where it was seen, so that many parts do not take eight times as many requests.
            for number in sorted(range(_MOST), key=lambda number: number != self._seen.get(name)):
                if (content := (await self._parts(number)).get(name)) is not None:
                    return content
        return None

    @override
    async def remove(self, run: str) -> None:
        async with self._maps.explained():
            for number in range(_MOST):
                parts = await self._parts(number)
                left = {name: content for name, content in parts.items() if self._run(name) != run}
                if left != parts:
                    await self._maps.write(self._name(number), left, {})

    async def _all(self) -> Collection[tuple[str, int]]:
        """Return run and number of all parts that there are."""
        async with self._maps.explained():
            names = [name for number in range(_MOST) for name in await self._parts(number)]
        return [found for name in names if (found := parse_copy_name(name, self._uid)) is not None]

    async def _parts(self, number: int) -> dict[str, bytes]:
        """Return what one ConfigMap holds; what is damaged is empty, and so of no use."""
        found = await self._maps.get(self._name(number))
        if found is None:
            return {}
        parts = {name: binary(found, name) or b"" for name in found.binary_data or {}}
        self._seen.update(dict.fromkeys(parts, number))
        return parts

    def _run(self, name: str) -> str | None:
        parsed = parse_copy_name(name, self._uid)
        return None if parsed is None else parsed[0]

    def _name(self, number: int) -> str:
        return self._maps.name(f"copies-{number}")
