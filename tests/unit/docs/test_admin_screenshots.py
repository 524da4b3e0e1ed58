"""The pictures of the admin pages: each page of the list has one in both themes, and they are small."""

from __future__ import annotations

from pathlib import Path

import pytest
from shown_pages import ROUTES, example, name_of

DOCS = Path(__file__).parents[3] / "docs"
THEMES = ("light", "dark")


@pytest.mark.parametrize("route", ROUTES)
def test_each_page_has_its_pictures(route: str) -> None:
    text = (DOCS / "admin-screenshots.md").read_text("utf-8")
    for theme in THEMES:
        file = f"images/admin/{name_of(route)}-{theme}.webp"
        assert f"]({file})" in text, "run `make screenshots`"
        assert (DOCS / file).stat().st_size <= 150 * 1024


def test_there_are_no_pictures_of_other_pages() -> None:
    expected = {f"{name_of(route)}-{theme}.webp" for route in ROUTES for theme in THEMES}

    assert expected == {path.name for path in (DOCS / "images" / "admin").iterdir()}


def test_the_admin_pages_lead_to_the_pictures() -> None:
    assert "(admin-screenshots.md)" in (DOCS / "admin-pages.md").read_text("utf-8")


def test_a_page_with_a_name_in_its_path_is_found_by_a_link() -> None:
    links = ["/ui/keys", "/ui/keys/new", "/ui/requests?user=ann", "/ui/requests/x-1?from=log", "/elsewhere/y"]

    assert "/requests/x-1" == example("/requests/{exchange}", links)
    assert "/audit" == example("/audit", links)


def test_names_of_pictures_are_unlike() -> None:
    names = [name_of(route) for route in ROUTES]

    assert sorted(set(names)) == sorted(names)
    assert ("overview", "requests-of-exchange") == (name_of("/"), name_of("/requests/{exchange}"))
