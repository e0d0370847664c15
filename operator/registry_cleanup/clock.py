"""The machine's clock."""

from __future__ import annotations

from datetime import UTC, datetime

from typing_extensions import override

from registry_cleanup.ports import Clock


class SystemClock(Clock):
    """The machine's clock."""

    @override
    def now(self) -> datetime:
        return datetime.now(UTC)
