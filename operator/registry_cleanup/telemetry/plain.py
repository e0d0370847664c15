"""Log lines for people: what JSON has as fields stands behind the message."""

from __future__ import annotations

import logging

from typing_extensions import override

_USUAL = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class PlainFormatter(logging.Formatter):
    """Writes `message (policy=team/builds run=…)`; fields without a value are left out."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = {key: value for key, value in record.__dict__.items() if key not in _USUAL and value is not None}
        told = " ".join(f"{key}={value}" for key, value in fields.items() if not key.startswith("_"))
        return super().formatMessage(record) + (f" ({told})" if told else "")
