"""How long the HTML page takes: to be written, to be seen, and to answer while somebody scrolls, searches and hovers.

A task of more than 50 ms is one that a person feels; the browser reports them itself.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page

from registry_cleanup.cli.page import render_page
from tests.support.browser import DESKTOP, PHONE, chromium, opened
from tests.support.report_lines import large

_WATCH = """
window.slow = [];
new PerformanceObserver((found) => {
  for (const task of found.getEntries()) window.slow.push(Math.round(task.duration));
}).observe({ type: "longtask", buffered: true });
"""
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_SEARCHED = "statefulset"


def main() -> None:
    """Measure pages of several sizes, each in a window of its own."""
    sys.stdout.write("tags     repositories  window   written  size     first paint  longest tasks (ms): start, then\n")
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        for tags, repositories, size in (
            (20_000, 120, DESKTOP),
            (20_000, 1, DESKTOP),
            (20_000, 2000, PHONE),
            (100_000, 500, DESKTOP),
        ):
            _measure(browser, Path(folder) / "page.html", tags, repositories, size)


def _measure(browser: Browser, file: Path, tags: int, repositories: int, size: tuple[int, int]) -> None:
    lines = list(large(tags, repositories))
    start = time.perf_counter()
    page = render_page(lines)
    written = time.perf_counter() - start
    file.write_text(page)
    with opened(browser, file, size, ready="html.ready") as watched:
        watched.page.evaluate(_WATCH)
        watched.page.wait_for_timeout(300)
        tasks = {"start": _taken(watched.page)}
        for name, act in _ACTS.items():
            act(watched.page)
            watched.page.wait_for_timeout(200)
            tasks[name] = _taken(watched.page)
        paint = watched.page.evaluate(_PAINT)
    told = "  ".join(f"{name} {max(found, default=0)}" for name, found in tasks.items())
    megabytes = len(page.encode()) / 1e6
    where = "phone" if size == PHONE else "desktop"
    sys.stdout.write(
        f"{tags:<9}{repositories:<14}{where:<9}{written:5.2f} s  {megabytes:4.1f} MB  {paint:7.0f} ms   {told}\n"
    )


def _taken(page: Page) -> list[int]:
    found: list[int] = page.evaluate("window.slow.splice(0)")
    return found


def _scroll(page: Page) -> None:
    page.mouse.move(600 if (page.viewport_size or {})["width"] > 700 else 200, 400)
    for _ in range(60):
        page.mouse.wheel(0, 600)
        page.wait_for_timeout(16)


def _search(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type(_SEARCHED, delay=60)
    page.keyboard.press("Escape")


def _hover(page: Page) -> None:
    page.evaluate("scrollTo(0, 0)")
    box = page.locator(".plot").first.bounding_box()
    if box is not None:
        page.mouse.move(box["x"], box["y"])
        page.mouse.move(box["x"] + box["width"], box["y"] + box["height"] - 20, steps=80)


def _filter(page: Page) -> None:
    for name in ("going", "kept", "going", "kept"):
        page.locator(f"[data-standing={name}]").click()


def _table(page: Page) -> None:
    page.get_by_role("button", name="Table").click()


def _sort(page: Page) -> None:
    page.get_by_role("button", name="Size").click()


_ACTS: dict[str, Callable[[Page], None]] = {
    "scroll": _scroll,
    "search": _search,
    "hover": _hover,
    "filter": _filter,
    "table": _table,
    "sort": _sort,
    "scroll table": _scroll,
}


if __name__ == "__main__":
    main()
