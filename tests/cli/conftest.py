"""What the tests of the commands share."""

import pytest

from tests.support.installation import Installation, installation


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The program as people install it."""
    return installation(tmp_path_factory.mktemp("installation"))
