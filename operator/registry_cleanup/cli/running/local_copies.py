"""Copies on this machine, of what `run` prunes by a policy that names no repository for them: files beside its plan."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from typing_extensions import override

from registry_cleanup.cli.running.local_plans import LocalPlans
from registry_cleanup.domain.copies import copy_name, parse_copy_name
from registry_cleanup.domain.run import Failure
from registry_cleanup.ports import CopyStore, RunError


class LocalCopies(CopyStore):
    """The copies of one policy in the folder of its plans, a file for each part."""

    def __init__(self, plans: LocalPlans, uid: str) -> None:
        """Keep copies beside `plans` of the policy with this UID."""
        self._plans = plans
        self._uid = uid

    @property
    @override
    def most_bytes(self) -> int:
        return 8 * 1024 * 1024

    @override
    async def write(self, run: str, part: int, content: bytes) -> bytes:
        name = copy_name(run, part, self._uid)
        await asyncio.to_thread(self._plans.write, name, content)
        served = await asyncio.to_thread(self._plans.read, name)
        if served is None:
            raise RunError(Failure("NotStored", f"{self._plans.folder} took a copy, and does not hold it"))
        return served

    @override
    async def runs(self) -> Sequence[str]:
        return sorted({run for run, _ in self._parts()})

    @override
    async def numbers(self, run: str) -> Sequence[int]:
        return [part for of, part in self._parts() if of == run]

    @override
    async def read(self, run: str, part: int) -> bytes | None:
        return await asyncio.to_thread(self._plans.read, copy_name(run, part, self._uid))

    @override
    async def remove(self, run: str) -> None:
        for of, part in self._parts():
            if of == run:
                (self._plans.folder / copy_name(run, part, self._uid)).unlink(missing_ok=True)

    def _parts(self) -> list[tuple[str, int]]:
        names = [file.name for file in self._plans.folder.iterdir()]
        return sorted(found for name in names if (found := parse_copy_name(name, self._uid)) is not None)
