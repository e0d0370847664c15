"""The HTML page in a real browser: what it shows, how it is used, and that it asks for nothing and believes nobody."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from registry_cleanup.cli.page import render_page
from registry_cleanup.cli.page.words import standing
from tests.support.browser import DESKTOP, PHONE, chromium, opened
from tests.support.report_lines import MADE, Line, head, large, tag

Show = Callable[..., AbstractContextManager[Page]]

# After which the page has seen that it was scrolled.
_TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
_USERS = ["Deployment front/site", "CronJob mail/digest"]
_SHOP: Sequence[Line] = [
    head(reclaimableBytesEstimate=3 * 1024**3),
    tag("shop/api", "build-1", "OlderThan", 90, size=50 * 1024**2),
    tag("shop/api", "build-2", "OlderThan", 60, size=51 * 1024**2),
    tag("shop/api", "build-3", "InUse", 30, size=52 * 1024**2, users=_USERS, moreUsers=4),
    tag("shop/api", "build-4", "MostRecent", 1, size=53 * 1024**2, rule="builds"),
    tag("shop/api", "latest", "KeepTags", 1),
    tag("shop/web", "v1.0", "Unmatched"),
    tag("shop/web", "build-9", "BeyondMostRecent", 400),
    {"type": "held", "repository": "shop/api", "tag": "build-2", "reason": "GracePeriod"},
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Show:
    """Show a report in the browser, and expect that the page asks for nothing and complains of nothing."""

    @contextmanager
    def show(
        lines: Sequence[Line], size: tuple[int, int] = DESKTOP, ready: str = "html.ready", **options: object
    ) -> Iterator[Page]:
        file = tmp_path / "page.html"
        file.write_text(render_page(lines, policy="shop/builds", prunable_from=MADE + timedelta(days=1)))
        with opened(browser, file, size, ready=ready, **options) as watched:
            yield watched.page
            assert watched.requests == []
            assert watched.complaints == []

    return show


def section(page: Page, repository: str) -> Locator:
    return page.locator("section", has=page.get_by_role("heading", name=repository, exact=True))


def figures(page: Page) -> dict[str, str]:
    """Return what the page counts of each repository, scrolling so that each is drawn."""
    found = {}
    for one in page.locator("section.repository").all():
        one.scroll_into_view_if_needed()
        found[one.locator("h3").inner_text()] = " ".join(one.locator(".figures").inner_text().split())
    return found


def drawn(page: Page) -> None:
    """Wait until what was typed last is drawn, which happens with the next frame."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def walk(page: Page, plot: Locator) -> Iterator[str]:
    """Go along the tags of a timeline with the keyboard, from the oldest to the newest, and yield what is told."""
    plot.focus()
    page.keyboard.press("Home")
    option = plot.get_by_role("option")
    for number in range(1, int(option.get_attribute("aria-setsize") or 0) + 1):
        assert option.get_attribute("aria-posinset") == str(number)
        yield option.text_content() or ""
        page.keyboard.press("ArrowRight")


# What it shows


def test_the_head_tells_totals_policy_registry_time_and_the_plan_s_hash(show: Show) -> None:
    with show(_SHOP) as page:
        expect(page.get_by_role("heading", level=1)).to_have_text("3 of 7 tags would go")
        text = page.locator("header").inner_text()
        for fact in ("shop/builds", "registry.example.com", "2026-03-02 09:30 UTC", head()["plan"], "3.0\u00a0GiB"):
            assert fact in text
        assert page.locator(".legend .number").all_inner_texts() == ["3", "2", "2"]
        assert "1 tag waits until the grace period is over (from 2026-03-03 09:30 UTC)" in text


def test_each_repository_is_counted_as_the_lines_say(show: Show) -> None:
    lines = list(large(600, 12))
    counts: dict[str, Counter[str]] = {}
    for line in lines:
        if line["type"] == "tag":
            where = standing(line["verdict"], line.get("reason"))
            counts.setdefault(line["repository"], Counter())[where] += 1

    with show(lines) as page:
        found = figures(page) if page.locator(".figures").count() else {}

    del found["legacy/monolith"]
    words = ("going", "protected", "kept")
    assert found == {
        name: " ".join(f"{count[word]:,} {word}" for word in words if count[word]) for name, count in counts.items()
    }


def test_the_keyboard_goes_along_all_tags_of_a_timeline_in_the_order_of_time(show: Show) -> None:
    with show(_SHOP) as page:
        told = list(walk(page, section(page, "shop/api").get_by_role("listbox")))

    assert [sentence.partition(":")[0] for sentence in told] == ["build-1", "build-2", "build-3", "build-4", "latest"]
    assert told[0] == "build-1: going; older than its rule keeps; 3 months old; 50.0 MiB"
    assert told[1].startswith(
        "build-2: going, not yet; older than its rule keeps; waits until the grace period is over"
    )
    assert told[2].endswith("used by Deployment front/site, CronJob mail/digest and 4 more")


def test_the_keyboard_reaches_every_tag_of_a_crowded_timeline_once(show: Show) -> None:
    lines = [
        head(),
        *(tag("app", f"b{number}", "OlderThan" if number % 3 else "InUse", number / 50) for number in range(900)),
    ]

    with show(lines) as page:
        told = [sentence.partition(":")[0] for sentence in walk(page, page.get_by_role("listbox"))]

    assert sorted(told) == sorted(line["tag"] for line in lines[1:])


def test_a_key_shows_the_card_with_reason_size_and_users_and_escape_closes_it(show: Show) -> None:
    with show(_SHOP) as page:
        plot = section(page, "shop/api").get_by_role("listbox")
        plot.focus()
        for key in ("Home", "ArrowRight", "ArrowRight"):
            page.keyboard.press(key)
        card = page.get_by_role("region", name="About the tag")
        expect(card).to_contain_text("build-3")
        for fact in (
            "protected",
            "In use in the cluster.",
            "52.0 MiB",
            *_USERS,
            "and 4 more",
            "2026-01-31",
            "30 days old",
        ):
            expect(card).to_contain_text(fact)
        page.keyboard.press("Escape")
        expect(card).to_be_hidden()
        expect(plot).to_be_focused()


def test_hovering_over_a_mark_shows_its_card_until_the_pointer_leaves(show: Show) -> None:
    with show([head(), tag("app", "v1", "OlderThan", 90, size=1024), tag("app", "v2", "MostRecent", 1)]) as page:
        plot = page.get_by_role("listbox")
        box = plot.bounding_box()
        assert box is not None
        card = page.get_by_role("region", name="About the tag")
        page.mouse.move(box["x"] + 8, box["y"] + box["height"] - 10)
        expect(card).to_contain_text("v1")
        expect(card).to_contain_text("1.0 KiB")
        expect(card).to_contain_text("Older than its rule keeps.")
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] - 100)
        expect(card).to_be_hidden()


def test_a_tap_shows_the_card_at_the_foot_of_a_phone_and_its_buttons_go_on(show: Show) -> None:
    with show(
        [head(), tag("app", "v1", "OlderThan", 90), tag("app", "v2", "MostRecent", 1)], PHONE, has_touch=True
    ) as page:
        box = page.get_by_role("listbox").bounding_box()
        assert box is not None
        page.touchscreen.tap(box["x"] + 20, box["y"] + box["height"] - 10)
        card = page.get_by_role("region", name="About the tag")
        expect(card).to_contain_text("v1")
        place = card.bounding_box()
        assert place is not None
        assert (place["x"], place["width"], place["y"] + place["height"]) == (0, PHONE[0], PHONE[1])
        card.get_by_role("button", name="Next tag").click()
        expect(card).to_contain_text("v2")
        expect(card.get_by_role("button", name="Next tag")).to_be_focused()
        card.get_by_role("button", name="Close").click()
        expect(card).to_be_hidden()
        expect(page.get_by_role("listbox")).to_be_focused()


def test_the_table_says_of_every_tag_what_the_lines_say(show: Show) -> None:
    lines = list(large(300, 4))
    expected = {(line["repository"], line["tag"]) for line in lines if line["type"] == "tag"}

    with show(lines) as page:
        page.get_by_role("button", name="Table").click()
        table = page.get_by_role("table", name="Tags")
        assert table.get_attribute("aria-rowcount") == str(len(expected) + 1)
        found: dict[tuple[str, str], str] = {}
        while len(found) < len(expected):
            before = len(found)
            for row in table.get_by_role("row").all():
                cells = row.get_by_role("cell").all_inner_texts()
                found[cells[0], cells[1]] = cells[2]
            page.evaluate("scrollBy(0, 700)")
            page.evaluate(_TWO_FRAMES)
            assert len(found) > before

    assert found.keys() == expected


def test_the_table_is_sorted_by_the_column_that_is_pressed(show: Show) -> None:
    with show(_SHOP) as page:
        page.get_by_role("button", name="Table").click()
        names = page.locator("#table .c-tag")
        page.get_by_role("button", name="Size").click()
        page.get_by_role("button", name="Size").click()
        assert names.all_inner_texts()[:4] == ["build-4", "build-3", "build-2", "build-1"]
        assert page.get_by_role("columnheader", name="Size").get_attribute("aria-sort") == "descending"
        expect(page.get_by_role("button", name="Size")).to_be_focused()


def test_a_tag_of_the_table_opens_its_card(show: Show) -> None:
    with show(_SHOP) as page:
        page.get_by_role("button", name="Table").click()
        page.get_by_role("button", name="build-3").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("region", name="About the tag")).to_contain_text("CronJob mail/digest")
        page.keyboard.press("Escape")
        expect(page.get_by_role("region", name="About the tag")).to_be_hidden()


# What is not like the others


def test_tags_without_a_believable_date_stand_apart(show: Show) -> None:
    lines = [
        head(),
        tag("app", "epoch", "UnknownDate", 20_000),
        tag("app", "none", "Unmatched"),
        tag("app", "future", "UnknownDate", -30),
        tag("app", "dated", "OlderThan", 40),
    ]
    with show(lines) as page:
        expect(page.locator("#ruler")).to_contain_text("no date known")
        told = list(walk(page, page.get_by_role("listbox")))
        left = page.evaluate("sections.get(repositories[0]).arranged.marks.map((mark) => [mark.tag.name, mark.x])")
        card = page.get_by_role("region", name="About the tag")
        page.keyboard.press("Home")
        expect(card).to_contain_text("not known; it claims 1971-05-")

    assert [sentence.partition(":")[0] for sentence in told] == ["epoch", "none", "future", "dated"]
    assert all("no date known" in sentence for sentence in told[:3])
    assert left[3][1] - left[2][1] > 100


def test_a_tag_whose_date_nobody_read_stands_where_its_image_stands(show: Show) -> None:
    digest = "sha256:" + "ab" * 32
    lines = [
        head(),
        tag("web", "build-7", "SharedDigest", 60, digest=digest),
        tag("web", "v1.0", "Unmatched", digest=digest),
    ]

    with show(lines) as page:
        told = list(walk(page, page.get_by_role("listbox")))
        page.keyboard.press("Home")
        expect(page.get_by_role("region", name="About the tag")).to_contain_text(
            "2 months old, the same image as build-7"
        )

    assert [sentence.partition(":")[0] for sentence in told] == ["v1.0", "build-7"]
    assert all("2 months old" in sentence for sentence in told)


def test_a_plan_without_any_date_is_drawn_by_name(show: Show) -> None:
    lines = [head(), *(tag("lib", f"1.{n}.0", "BeyondMostRecent" if n < 9 else "MostRecent") for n in range(12))]

    with show(lines) as page:
        told = list(walk(page, page.get_by_role("listbox")))

    assert [sentence.partition(":")[0] for sentence in told] == [f"1.{n}.0" for n in range(12)]


def test_repositories_not_read_whole_or_cut_say_so(show: Show) -> None:
    lines = [
        head(repositoriesCut=1),
        tag("app", "v1", "Unmatched", 3),
        {"type": "incomplete", "repository": "base", "reason": "ManifestUnknown", "tags": 12},
        {"type": "cut", "repository": "huge", "lines": 51_234},
    ]
    with show(lines) as page:
        expect(page.get_by_role("heading", level=1)).to_have_text("Nothing would go: 13 tags would stay")
        expect(section(page, "base")).to_contain_text("Not read whole (ManifestUnknown): 12 tags listed")
        expect(section(page, "huge")).to_contain_text("51,234 lines did not fit into the report")
        text = page.locator("header").inner_text()
        assert "1 repository could not be read whole, where everything stays" in text
        assert "1 repository did not fit into the report, and the totals lack their tags" in text


def test_the_report_of_a_run_says_what_became_of_each_tag(show: Show) -> None:
    outcomes = [
        ("b1", "Pruned", None),
        ("b2", "NotDeleted", None),
        ("b3", "Failed", "UNAVAILABLE"),
        ("b4", "NowInUse", None),
    ]
    lines: list[Line] = [head(planOnly=False), *(tag("app", f"b{n}", "OlderThan", 90 - n) for n in range(1, 7))]
    lines += [
        {"type": "outcome", "repository": "app", "tag": name, "digest": "sha256:1", "outcome": outcome}
        | ({"code": code} if code else {})
        for name, outcome, code in outcomes
    ]
    lines += [
        {"type": "held", "repository": "app", "tag": "b5", "reason": "LimitTruncated"},
        {"type": "untagged", "repository": "app", "digest": "sha256:2"},
        {"type": "untagged", "repository": "app", "digest": "sha256:2", "outcome": "Pruned"},
    ]
    with show(lines) as page:
        expect(page.get_by_role("heading", level=1)).to_have_text("1 of 6 planned tags went")
        assert figures(page) == {"app": "1 gone 3 still there 2 going, not yet"}
        expect(section(page, "app")).to_contain_text("1 manifest left without a tag: 1 pruned")
        told = list(walk(page, page.get_by_role("listbox")))

    by_name = dict(sentence.split(": ", 1) for sentence in told)
    assert by_name["b1"].startswith("gone; older than its rule keeps; pruned")
    assert by_name["b2"].startswith("still there; older than its rule keeps; not deleted")
    assert "failed (UNAVAILABLE)" in by_name["b3"]
    assert "stayed: it came into use" in by_name["b4"]
    assert "waits, because one run may not prune so many" in by_name["b5"]
    assert "not tried" in by_name["b6"]


def test_a_report_without_a_single_tag_is_a_page(show: Show) -> None:
    with show([head()]) as page:
        expect(page.get_by_role("heading", level=1)).to_have_text("No tags at all")
        expect(page.get_by_text("No tag is like that.")).to_be_visible()


# Search and filter


@pytest.mark.parametrize(
    ("words", "found", "expected"),
    [
        ("build-9", 1, {"shop/web": "1 going of 2 tags"}),
        ("SHOP/WEB", 2, {"shop/web": "1 going 1 kept"}),
        ("cronjob", 1, {"shop/api": "1 protected of 5 tags"}),
        ("api builds build-4", 1, {"shop/api": "1 kept of 5 tags"}),
        ("KeepTags", 1, {"shop/api": "1 protected of 5 tags"}),
        ("olderthan build-1", 1, {"shop/api": "1 going of 5 tags"}),
        ("GracePeriod", 1, {"shop/api": "1 going of 5 tags"}),
        ("nothing like that", 0, {}),
    ],
)
def test_the_search_finds_tags_repositories_rules_reasons_and_users(
    show: Show, words: str, found: int, expected: dict[str, str]
) -> None:
    with show(_SHOP) as page:
        page.keyboard.press("/")
        expect(page.get_by_role("searchbox")).to_be_focused()
        page.keyboard.type(words)
        expect(page.get_by_role("status")).to_have_text(f"{found} of 7 tags")
        drawn(page)
        assert figures(page) == expected
        expect(page.get_by_text("No tag is like that.")).to_be_visible(visible=not expected)
        page.keyboard.press("Escape")
        expect(page.get_by_role("status")).to_have_text("7 tags")
        assert page.get_by_role("searchbox").input_value() == ""


def test_the_search_finds_a_digest_by_its_beginning(show: Show) -> None:
    with show(_SHOP) as page:
        page.get_by_role("searchbox").fill(_SHOP[3]["digest"][:15])
        expect(page.get_by_role("status")).to_have_text("1 of 7 tags")


def test_standings_are_switched_off_and_on_with_the_figures(show: Show) -> None:
    with show(_SHOP) as page:
        page.get_by_role("button", name="going").click()
        expect(page.get_by_role("status")).to_have_text("4 of 7 tags")
        assert figures(page) == {"shop/api": "2 protected 1 kept of 5 tags", "shop/web": "1 kept of 2 tags"}
        assert page.get_by_role("button", name="going").get_attribute("aria-pressed") == "false"
        page.get_by_role("button", name="going").click()
        expect(page.get_by_role("status")).to_have_text("7 tags")


def test_a_reason_is_chosen_among_those_that_occur(show: Show) -> None:
    with show(_SHOP) as page:
        select = page.get_by_role("combobox", name="Reason")
        assert "OlderThan (2)" in select.inner_text()
        assert "SharedDigest" not in select.inner_text()
        select.select_option("GracePeriod")
        expect(page.get_by_role("status")).to_have_text("1 of 7 tags")
        page.get_by_role("searchbox").fill("nothing like that")
        page.get_by_role("button", name="Show all tags").click()
        expect(page.get_by_role("status")).to_have_text("7 tags")


def test_repositories_are_put_into_the_chosen_order(show: Show) -> None:
    lines = [head(), *(tag("a", f"v{n}", "Unmatched", n) for n in range(5)), tag("b", "v1", "OlderThan", 50)]

    with show(lines) as page:
        names = page.locator("section h3")
        assert names.all_inner_texts() == ["b", "a"]
        page.get_by_role("combobox", name="Order").select_option("tags")
        expect(names).to_have_text(["a", "b"])
        page.get_by_role("combobox", name="Order").select_option("going")
        expect(names).to_have_text(["b", "a"])


@pytest.mark.parametrize("choice", [("Time", "even"), ("Height", "size")])
def test_another_scale_draws_another_picture_of_the_same_tags(show: Show, choice: tuple[str, str]) -> None:
    with show(_SHOP) as page:
        before = sorted(walk(page, section(page, "shop/api").get_by_role("listbox")))
        picture = page.evaluate("document.querySelector('canvas').toDataURL()")
        page.get_by_role("combobox", name=choice[0]).select_option(choice[1])
        page.wait_for_function("(old) => (document.querySelector('canvas')?.toDataURL() ?? old) !== old", arg=picture)
        assert sorted(walk(page, section(page, "shop/api").get_by_role("listbox"))) == before


# Trust

_HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "\"'`><svg onload=alert(1)>",
    "\u202egpj.exe",
    "javascript:alert(1)",
    "&lt;b&gt;",
    "שלום-עולם",
    "x" * 4000,
]


def test_names_from_a_registry_are_text_and_nothing_else(show: Show) -> None:
    lines = [head(registry=_HOSTILE[1], run=_HOSTILE[0])]
    for number, name in enumerate(_HOSTILE):
        lines.append(tag(name, name, "InUse", number, users=_HOSTILE[:3], rule=name, setting=name))
        lines.append({"type": "incomplete", "repository": f"r{name}", "reason": name, "tags": 1})
    spelled = ["\\u202egpj.exe" if name == _HOSTILE[3] else name for name in _HOSTILE]

    with show(lines) as page:
        assert sorted(page.locator("section h3").all_inner_texts()) == sorted(
            [*spelled, *(f"r{name}" for name in spelled)]
        )
        for plot in page.get_by_role("listbox").all():
            plot.focus()
            page.keyboard.press("Home")
            shown = page.locator("#card .tag").text_content()
            assert shown in spelled
        page.get_by_role("button", name="Table").click()
        assert sorted(page.locator("#table .c-tag").all_text_contents()) == sorted(spelled)
        assert page.locator("img, iframe, object, embed, #table script, svg[onload]").count() == 0
        assert page.evaluate("document.scripts.length") == 2
        assert no_sideways(page)


def test_the_page_forbids_itself_what_it_does_not_bring(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(render_page(_SHOP))

    with opened(browser, file) as watched:
        page = watched.page
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), { text: 'window.ran = 1' }))"
        )
        assert page.evaluate("window.ran") is None
        assert page.evaluate("fetch('http://127.0.0.1:1/').then(() => 'sent', () => 'refused')") == "refused"
        page.evaluate("document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.1:1/x.png' }))")
        page.wait_for_timeout(50)
        refusals = [complaint for complaint in watched.complaints if "Content Security Policy" in complaint]

    assert len(refusals) >= 3
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg|http-equiv", "", file.read_text())


# For everyone


def no_sideways(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(360, 740), PHONE, (768, 1024), DESKTOP, (1920, 1080)])
def test_nothing_is_wider_than_the_window(show: Show, size: tuple[int, int], scheme: str) -> None:
    lines = [*large(4000, 9), tag("team/" + "long-" * 60, "t" * 128, "InUse", 9, users=["Deployment " + "n" * 253])]

    with show(lines, size, color_scheme=scheme) as page:
        assert no_sideways(page)
        page.get_by_role("listbox").first.focus()
        page.keyboard.press("End")
        assert no_sideways(page)
        page.get_by_role("button", name="Table").click()
        assert no_sideways(page)


_CONTRAST = """
() => {
  const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((part) => channel(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return getComputedStyle(document.documentElement).backgroundColor;
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest("script, noscript, option")) continue;
    const pair = [light(getComputedStyle(node).color), light(ground(node))].sort();
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (ratio < 4.5) found.push(`${node.tagName}.${node.className} ${node.textContent.slice(0, 30)}: ${ratio}`);
  }
  return found;
}
"""
_MARKS = """
() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = (name) => {
    pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map((part) => channel(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  return ["kept", "protected", "going", "focus", "control"].map((name) => ratio(light(name), light("ground")));
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_marks_stand_out_from_their_ground(show: Show, scheme: str) -> None:
    with show(_SHOP, color_scheme=scheme) as page:
        page.get_by_role("listbox").first.focus()
        page.keyboard.press("Home")
        assert page.evaluate(_CONTRAST) == []
        assert min(page.evaluate(_MARKS)) >= 3
        page.get_by_role("button", name="Table").click()
        assert page.evaluate(_CONTRAST) == []


def test_light_and_dark_are_two_designs_and_change_while_it_is_open(show: Show) -> None:
    with show(_SHOP, color_scheme="light") as page:
        ground = "getComputedStyle(document.body).backgroundColor"
        light, picture = page.evaluate(ground), page.evaluate("document.querySelector('canvas').toDataURL()")
        page.emulate_media(color_scheme="dark")
        page.wait_for_function("(old) => document.querySelector('canvas').toDataURL() !== old", arg=picture)
        assert page.evaluate(ground) != light


_UNNAMED = """
() => [...document.querySelectorAll("button, input, select, a, [role], [tabindex]")]
  .filter((node) => node.checkVisibility() && node.tabIndex >= 0)
  .filter((node) => !(node.getAttribute("aria-label") || node.labels?.length || node.textContent.trim()))
  .map((node) => node.outerHTML)
"""


@pytest.mark.parametrize("view", ["Timelines", "Table"])
def test_every_control_has_a_name_and_every_id_is_one(show: Show, view: str) -> None:
    with show(_SHOP) as page:
        page.get_by_role("button", name=view).click()
        expect(page.locator("canvas, #table .row").first).to_be_attached()
        assert page.evaluate(_UNNAMED) == []
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
        assert len(ids) == len(set(ids))
        assert page.evaluate("document.documentElement.lang") == "en"
        assert "would go" in page.title()
        levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((node) => Number(node.tagName[1]))")
        assert levels[:2] == [1, 2]
        assert set(levels[2:]) <= {3}
        assert page.evaluate("[...document.querySelectorAll('svg')].every((node) => node.getAttribute('aria-hidden'))")


def test_tab_leads_through_every_control_with_a_visible_focus(show: Show) -> None:
    with show(_SHOP) as page:
        found = []
        for _ in range(13):
            page.keyboard.press("Tab")
            style = "getComputedStyle(document.activeElement)"
            assert page.evaluate(f"{style}.outlineStyle") != "none"
            assert page.evaluate(f"parseFloat({style}.outlineWidth)") >= 2
            found.append(
                page.evaluate(
                    "document.activeElement.id || document.activeElement.textContent.trim().split(/\\s+/).pop()"
                )
            )
        assert found == [
            "repositories", "going", "protected", "kept", "reason", "order", "scale", "height", "search",
            "Timelines", "Table", "", "",
        ]  # fmt: skip


def test_whoever_wants_no_motion_gets_none(show: Show) -> None:
    with show(_SHOP, PHONE) as page:
        page.get_by_role("listbox").first.focus()
        page.keyboard.press("End")
        assert page.evaluate("document.getAnimations().length") == 0


def test_without_scripts_there_is_a_summary_as_a_table(show: Show) -> None:
    with show(_SHOP, ready="html", java_script_enabled=False) as page:
        expect(page.get_by_role("heading", level=1)).to_have_text("3 of 7 tags would go")
        rows = [" ".join(row.split()) for row in page.locator("noscript tr").all_inner_texts()]
        assert rows[1:] == ["shop/api 1 2 2", "shop/web 1 0 1"]
        expect(page.get_by_role("searchbox")).to_be_hidden()


def test_paper_gets_all_repositories_in_the_colours_of_paper(show: Show) -> None:
    with show(list(large(2000, 40)), color_scheme="dark") as page:
        assert page.locator("canvas").count() < 40
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("canvas").count() == 40
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("colours.ground") == "#fff"
        expect(page.get_by_role("searchbox")).to_be_hidden()
        page.set_viewport_size({"width": 720, "height": 1000})
        assert no_sideways(page)
        page.emulate_media(media="screen")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate("colours.ground") != "#fff"


# Large ones


@pytest.mark.parametrize("repositories", [1, 300])
def test_of_20_000_tags_only_what_is_near_the_window_becomes_nodes(show: Show, repositories: int) -> None:
    nodes = "document.querySelectorAll('body *').length"
    with show(list(large(20_000, repositories))) as page:
        assert page.evaluate("everyTag.length") > 15_000
        assert page.evaluate(nodes) < 2500
        assert page.locator("canvas").count() < 20
        for _ in range(12):
            page.evaluate("scrollBy(0, 2 * innerHeight)")
            page.evaluate(_TWO_FRAMES)
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        expect(page.locator("section.repository").last.locator(".remark")).to_be_attached()
        page.wait_for_function("document.querySelectorAll('canvas').length < 20")
        page.get_by_role("button", name="Table").click()
        assert page.evaluate(nodes) < 1500
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        expect(page.locator("#table .row").last).to_have_attribute(
            "aria-rowindex", str(page.evaluate("everyTag.length + 1"))
        )
        assert page.evaluate(nodes) < 1500
