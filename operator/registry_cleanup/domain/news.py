"""What of the Events about a policy is news: the same is told once in a while, however often it happens."""

from __future__ import annotations

from datetime import datetime, timedelta

# So long API servers keep an Event by default: in this time it need not be told again.
_TOLD_FOR = timedelta(hours=1)
# Of a policy; the oldest is forgotten, and told again should it come back.
_MOST = 32


class News:
    """What has been told, and when."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], datetime] = {}

    def is_news(self, reason: str, message: str, now: datetime) -> bool:
        """Say whether this has not been told within the last hour, and take note that it is told now."""
        told = self._told.pop((reason, message), None)
        fresh = told is None or not timedelta(0) <= now - told < _TOLD_FOR
        self._told[reason, message] = now if told is None or fresh else told
        while len(self._told) > _MOST:
            del self._told[next(iter(self._told))]
        return fresh
