"""What is pushed goes to the registry itself, wherever that says an upload is."""

from typing import Any, cast

import httpx
import pytest

from registry_cleanup.registry.client import RegistryClient
from registry_cleanup.registry.errors import NotStoredError
from registry_cleanup.registry.pushing import Pusher
from registry_cleanup.registry.transport import Answer, Limits


class _Client:
    """A registry that begins an upload at a `place`, and takes whatever is put there."""

    url = "https://registry.example.com"
    limits = Limits(attempts=1)

    def __init__(self, place: str) -> None:
        self._place = place
        self.asked: list[str] = []

    async def send(self, method: str, url: str, *_: object, **__: Any) -> Answer:  # noqa: ANN401 - as the client has it
        self.asked.append(url)
        return Answer(202 if method == "POST" else 201, httpx.Headers({"Location": self._place}), b"")


@pytest.mark.parametrize("place", ["ftp:@169.254.169.254/latest", "ftp:.example.org/x", "data:x"])
async def test_an_upload_without_a_path_of_its_own_goes_nowhere(place: str) -> None:
    """It would go to another host with the login, past the administrator's bounds."""
    client = _Client(place)
    with pytest.raises(NotStoredError, match="names no place"):
        await Pusher(cast("RegistryClient", client)).blob("ops/undo", b"{}")
    assert len(client.asked) == 1


@pytest.mark.parametrize(
    "place",
    ["/v2/u/1?state=x", "https://registry.example.com/v2/u/1", "http://elsewhere:80/v2/u/1", "//elsewhere/v2/u/1"],
)
async def test_an_upload_goes_to_the_registry_s_own_host(place: str) -> None:
    client = _Client(place)
    await Pusher(cast("RegistryClient", client)).blob("ops/undo", b"{}")
    assert httpx.URL(client.asked[1]).host == "registry.example.com"
    assert client.asked[1].startswith("https://registry.example.com/v2/u/1?")
