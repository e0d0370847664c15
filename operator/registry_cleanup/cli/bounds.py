"""The bounds that the operator's settings in the environment put on every policy."""

from __future__ import annotations

import os

from registry_cleanup.cli.exits import CommandError, Exit
from registry_cleanup.domain.tenancy import UNBOUNDED, Bounds

# That of `settings.PREFIX`, which is not imported to find out that there are none.
_PREFIX = "REGISTRY_CLEANUP_"


def bounds_here() -> Bounds:
    """Return the bounds of the environment. Raises `CommandError` where its settings are wrong."""
    if not any(name.upper().startswith(_PREFIX) for name in os.environ):
        return UNBOUNDED
    from registry_cleanup.settings import WrongSettingsError, read_settings

    try:
        return read_settings().bounds
    except WrongSettingsError as error:
        raise CommandError("wrong settings:\n" + "\n".join(error.problems), Exit.USAGE) from error
