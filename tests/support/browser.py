"""A headless Chromium, and a page in it that is watched: what it asks of the network, and what it complains of."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, Request, sync_playwright

from tests.support.binaries import binary

DESKTOP = (1280, 800)
PHONE = (390, 844)
# It may look for nothing outside: no updates, no accounts, no safe browsing.
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser with a profile of its own that is gone afterwards."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary("chromium"), args=_OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page, and what happened in it.

    Attributes:
        page: the page.
        requests: addresses that it asked for, but for its own file and pictures that it brings with it.
        complaints: errors and warnings of the console, uncaught errors, dialogs.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def opened(
    browser: Browser, file: Path, size: tuple[int, int] = DESKTOP, *, ready: str = "html", **options: object
) -> Iterator[Watched]:
    """Open a file and wait for what `ready` selects, with the options of a browser context such as `color_scheme`."""
    viewport = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, reduced_motion="reduce", **options)  # type: ignore[arg-type]  # a TypedDict
    watched = Watched(context.new_page())
    page = watched.page
    address = file.as_uri()

    def asked(request: Request) -> None:
        if request.url != address and not request.url.startswith("data:"):
            watched.requests.append(request.url)

    page.on("request", asked)
    page.on("console", lambda message: watched.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    page.on("dialog", lambda dialog: watched.complaints.append(f"dialog: {dialog.message}"))
    try:
        page.goto(address)
        page.wait_for_selector(ready)
        yield watched
    finally:
        context.close()
