"""Each page of the list of pages, with the same traffic at each run: what it weighs, axe, and its picture in docs.

`WRITE_SCREENSHOTS=1` (`make screenshots`) writes the pictures, and docs/admin-screenshots.md with all of them.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import thoroughness
from admin_kit import secret_of
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Response
from shown_pages import ROUTES, example, name_of, serving

DOCS = Path(__file__).parents[2] / "docs"
IMAGES = DOCS / "images" / "admin"
THEMES = ("light", "dark")
LARGEST = 150 * 1024
# A table scrolls in itself, so a picture has the head of a long page.
WIDTH, HEIGHT = 1280, 860

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    thoroughness.long_only("test_admin_pages.py has axe, and tests/unit/pages the bytes of a page"),
]


@pytest.fixture(scope="module")
def root(chromium: Browser) -> Iterator[str]:
    with serving() as (_, address):
        yield address


@pytest.fixture(scope="module")
def paths(chromium: Browser, root: str) -> dict[str, str]:
    """An address of each page."""
    context = chromium.new_context()
    page = context.new_page()
    sign_in(page, root)
    links: list[str] = []
    for route in ROUTES:
        if "{" not in route:
            page.goto(f"{root}/ui{route}")
            links += page.eval_on_selector_all("main a[href]", "all => all.map(each => each.getAttribute('href'))")
    context.close()
    return {route: example(route, links) for route in ROUTES}


@pytest.fixture(scope="module", params=THEMES)
def themed(request: pytest.FixtureRequest, chromium: Browser, root: str) -> Iterator[tuple[str, Page]]:
    context = chromium.new_context(
        color_scheme=request.param, viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce"
    )
    page = context.new_page()
    sign_in(page, root)
    yield request.param, page
    context.close()


def sign_in(page: Page, root: str) -> None:
    page.goto(f"{root}/ui/sign-in")
    page.get_by_label("Admin token").fill(secret_of("root"))
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", level=1).wait_for()


def picture_of(page: Page) -> bytes:
    """As WebP, which playwright's own method does not write: a table of text has a third of the bytes of a PNG."""
    session = page.context.new_cdp_session(page)
    taken = session.send("Page.captureScreenshot", {"format": "webp", "quality": 80})
    session.detach()
    return base64.b64decode(taken["data"])


def faults(page: Page, *, colors_only: bool = False) -> list[tuple[str, list[str]]]:
    rules = {"runOnly": ["color-contrast"]} if colors_only else {}
    found = Axe().run(page, options={"resultTypes": ["violations"], **rules}).response["violations"]
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]


@pytest.mark.parametrize("route", ROUTES)
def test_axe_finds_no_fault_and_the_page_has_its_picture(
    themed: tuple[str, Page], root: str, paths: dict[str, str], route: str
) -> None:
    theme, page = themed
    page.goto(f"{root}/ui{paths[route]}")
    page.wait_for_load_state("load")

    # The themes differ in their colors alone.
    assert [] == faults(page, colors_only=theme != THEMES[0])
    if os.environ.get("WRITE_SCREENSHOTS"):
        picture = picture_of(page)
        assert len(picture) <= LARGEST
        IMAGES.mkdir(parents=True, exist_ok=True)
        (IMAGES / f"{name_of(route)}-{theme}.webp").write_bytes(picture)
        (DOCS / "admin-screenshots.md").write_text(gallery())


def test_axe_finds_no_fault_on_pages_without_a_session(chromium: Browser, root: str) -> None:
    for theme in THEMES:
        context = chromium.new_context(color_scheme=theme)
        page = context.new_page()
        page.goto(f"{root}/ui/sign-in")
        assert [] == faults(page)
        sign_in(page, root)
        page.goto(f"{root}/ui/nothing")
        assert [] == faults(page)
        context.close()


@pytest.fixture(scope="module")
def cookies(chromium: Browser, root: str) -> Any:
    """Of a user who has signed in."""
    context = chromium.new_context()
    sign_in(context.new_page(), root)
    found = context.cookies()
    context.close()
    return found


@pytest.mark.parametrize("route", ROUTES)
def test_a_page_with_all_that_it_loads_is_small(
    chromium: Browser, root: str, cookies: Any, paths: dict[str, str], route: str, record_property: Any
) -> None:
    """The first time, when the browser has none of the files."""
    context = chromium.new_context()
    context.add_cookies(cookies)
    page = context.new_page()
    loaded: list[Response] = []
    page.on("response", lambda response: loaded.append(response))  # noqa: PLW0108 - playwright marks the function
    page.goto(f"{root}/ui{paths[route]}", wait_until="load")
    sizes = {response.url.removeprefix(root): len(response.body()) for response in loaded}
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    context.close()
    # For docs/admin-pages.md: a busy machine is no failure.
    record_property("first_paint_ms", paint)
    print(f"{route}: {sum(sizes.values()):,} bytes, first paint after {paint} ms")

    assert {"/ui/static/style.css", "/ui/static/live.js"} <= {url.partition("?")[0] for url in sizes}
    assert sum(sizes.values()) <= LARGEST, sizes


def gallery() -> str:
    """The page with the pictures."""
    lines = [
        "# Pictures of the admin pages",
        "",
        "The traffic in these pictures is made up. [The admin pages](admin-pages.md) has what they show.",
    ]
    for route in ROUTES:
        lines += ["", f"## {title(route)}", ""]
        lines += [f"![{title(route)}, {theme}](images/admin/{name_of(route)}-{theme}.webp)" for theme in THEMES]
    return "\n".join(lines) + "\n"


def title(route: str) -> str:
    return name_of(route).replace("-", " ").capitalize()
