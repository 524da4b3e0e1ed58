"""The pages of money and of keys: what they compute and change."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from admin_kit import PEPPER, Api, open_api
from pages_kit import AdminPort, Page

from edge_extproc.auth.api_key import digest
from edge_extproc.model.limit_use import LimitUse
from edge_extproc.pages.charts import HEIGHT, WIDTH, bar_chart
from edge_extproc.pages.rendering import milliseconds, moment, money, query, rate

DOLLAR = 10**12
ROWS = 100


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    # The report's first day is computed from the clock of the machine.
    found.now = int(datetime.now(UTC).timestamp() * 1000)
    yield found
    found.uses.clear()
    found.engine.dispose()


@pytest.fixture
def port(api: Api) -> AdminPort:
    return AdminPort(api)


async def test_costs_are_summed_sorted_and_drawn(api: Api, port: AdminPort) -> None:
    for name, dollars in (("small", 1), ("large", 5), ("large", 2)):
        api.settle(f"{name}-{dollars}", user=name, cost=dollars * DOLLAR, input=10, output=dollars)
    page = await (await port.signed_in("eye")).page("/money?by=user")
    bars = [given for tag, given in page.elements if tag == "rect" and given["class"] == "bar"]

    assert "Spent by user: $8.00" in page.text
    assert page.text.index("large: $7.00") < page.text.index("small: $1.00")
    assert [str(float(HEIGHT)), str(round(HEIGHT / 7, 1))] == [bar["height"] for bar in bars]


async def test_a_report_has_the_dearest_rows_and_the_sum_of_all(api: Api, port: AdminPort) -> None:
    for n in range(ROWS + 20):
        api.settle(f"many-{n}", user=f"user-{n:03}", cost=(n + 1) * DOLLAR, input=1)
    browser = await port.signed_in("eye")
    page = await browser.page("/money?by=user")
    shown = [link.rpartition("=")[2] for link in page.links if "user=user-" in link]
    rows = list(csv.DictReader(io.StringIO((await browser.get("/money.csv?by=user")).text)))
    limited = (await api.ask("eye", "GET", "/usage/report?by=user&limit=2")).json()
    days = (await api.ask("eye", "GET", "/usage/report?by=day&limit=1")).json()

    assert [f"user-{n:03}" for n in range(ROWS + 19, 19, -1)] == shown
    assert "Spent by user: $7,260.00" in page.text
    assert "20 more rows are only in the CSV file" in page.text
    assert [f"user-{n:03}" for n in range(ROWS + 19, -1, -1)] == [row["user"] for row in rows]
    assert (["user-119", "user-118"], 120, "7260") == (
        [row["user"] for row in limited["rows"]],
        limited["groups"],
        limited["total"]["cost"],
    )
    assert [ROWS + 20] == [row["requests"] for row in days["rows"]]


async def test_a_report_of_days_is_in_their_order(api: Api, port: AdminPort) -> None:
    today = api.now
    for days, dollars in ((2, 1), (1, 3), (0, 2)):
        api.now = today - days * 86_400_000
        api.settle(f"days-{days}", cost=dollars * DOLLAR)
    page = await (await port.signed_in("eye")).page("/money?by=day")
    shown = [
        page.text.index(f"{datetime.fromtimestamp((today - n * 86_400_000) / 1000, UTC):%Y-%m-%d}:") for n in (2, 1, 0)
    ]

    assert sorted(shown) == shown


async def test_a_csv_file_runs_no_formula(api: Api, port: AdminPort) -> None:
    api.settle("formula", user="=1+1", cost=DOLLAR // 2)
    answer = await (await port.signed_in("eye")).get("/money.csv?by=user")
    (row,) = csv.DictReader(io.StringIO(answer.text))

    assert ("'=1+1", "0.5", "1") == (row["user"], row["cost"], row["requests"])
    assert 'attachment; filename="spending-by-user.csv"' == answer.headers["content-disposition"]


@pytest.mark.parametrize("by", ["none", "exchange"])
async def test_a_dimension_that_is_none_is_refused(port: AdminPort, by: str) -> None:
    assert 400 == (await (await port.signed_in("eye")).get(f"/money?by={by}")).status_code


async def test_a_budget_is_set_shown_with_what_is_left_and_deleted(api: Api, port: AdminPort) -> None:
    browser = await port.signed_in("root")
    form = (await browser.page("/money")).form("/ui/budgets/set")
    fields = {"tenant": "acme", "level": "team", "name": "search", "limit": "dollars_per_day", "maximum": "2.50"}
    assert 303 == (await browser.send(form, **fields)).status_code
    # Another limit of the same holder leaves the first one.
    assert 303 == (await browser.send(form, **{**fields, "limit": "concurrent", "maximum": "3"})).status_code
    limit = ("acme", "team", "search", "dollars", "day")
    api.uses[limit] = LimitUse(limit, 2_500_000, 1_500_000, 500_000, api.now // 1000)
    page = await browser.page("/money")

    assert "$2.50 $1.00 $0.50 $1.00" in page.text
    assert [{"dollars_per_day": "2.5", "concurrent": 3}] == [b.allowance for b in api.store.budgets("acme")]
    answer = await browser.send(page.form("/ui/budgets/delete"))
    assert "/ui/money?notice=budget-deleted#budgets" == answer.headers["location"]
    assert [] == api.store.budgets("acme")


async def test_a_key_is_shown_once(api: Api, port: AdminPort) -> None:
    browser = await port.signed_in("acme-admin")
    form = (await browser.page("/keys")).form("/ui/keys")
    made = await browser.send(form, id="ci", models="gpt-4o*, claude*", note="for tests", expires="2099-01-31T12:00")
    (secret,) = [given["value"] for tag, given in Page(made.text).elements if given.get("id") == "secret"]
    page = await browser.page("/keys/ci")

    assert 201 == made.status_code
    assert secret.startswith("edge-secret-")
    assert digest(PEPPER, secret) == next(each.digest for each in api.store.snapshot().keys if each.id == "ci")
    assert "gpt-4o*, claude*" in page.text
    assert "2099-01-31 12:00:00" in page.text
    for path in ("/keys", "/keys/ci", "/requests"):
        assert secret not in (await browser.get(path)).text


async def test_a_key_is_rotated_with_an_overlap_and_revoked(api: Api, port: AdminPort) -> None:
    browser = await port.signed_in("root")
    await browser.post("/keys", tenant="acme", id="turning")
    rotated = await browser.send((await browser.page("/keys/turning")).form("/ui/keys/turning/rotate"))
    key = api.store.key("turning")
    assert key is not None
    assert (200, api.now + 3600 * 1000) == (rotated.status_code, key.old_until_ms)
    answer = await browser.send((await browser.page("/keys/turning")).form("/ui/keys/turning/revoke"))
    page = await browser.page("/keys/turning?notice=key-revoked")

    assert "/ui/keys/turning?notice=key-revoked" == answer.headers["location"]
    assert "revoked since" in page.text
    assert ["/ui/sign-out"] == [form.action for form in page.forms]


async def test_a_key_that_cannot_be_made_leaves_what_was_typed(port: AdminPort) -> None:
    browser = await port.signed_in("root")
    await browser.post("/keys", tenant="acme", id="twice")
    answer = await browser.post("/keys", tenant="umbrella", id="twice", note="kept")
    page = Page(answer.text)

    assert 409 == answer.status_code
    assert "there is a key 'twice' already" in page.text
    assert ("umbrella", "twice", "kept") == tuple(page.form("/ui/keys").fields[n] for n in ("tenant", "id", "note"))


async def test_keys_are_paged_and_filtered(port: AdminPort) -> None:
    browser = await port.signed_in("root")
    for n in range(120):
        await port.api.ask("root", "POST", "/keys", json={"tenant": "acme", "id": f"many-{n:03}"})
    first = await browser.page("/keys?tenant=acme")
    (more,) = [link for link in first.links if "after=" in link]
    second = await browser.page(more.removeprefix("/ui"))
    names = [link for page in (first, second) for link in page.links if link.startswith("/ui/keys/")]

    assert 121 == len(names) == len(set(names))
    assert "/ui/keys/umbrella-file" not in names


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (money(None), "–"),
        (money("0"), "$0.00"),
        (money("1234.5"), "$1,234.50"),
        (money("0.0000123"), "$0.000012"),
        (money(12.0), "$12.00"),
        (milliseconds(250), "250 ms"),
        (milliseconds(2500), "2.50 s"),
        (rate(1234.56), "1,235"),
        (rate(0.04), "0.0"),
        (moment("2026-01-31T12:00:00+02:00"), "2026-01-31 10:00:00"),
        (moment(0), "1970-01-01 00:00:00"),
        (query({"a": "", "b": None}), ""),
        (query({"a": "x&y"}, b="ü"), "?a=x%26y&b=%C3%BC"),
    ],
)
def test_values_are_shown(shown: str, expected: str) -> None:
    assert expected == shown


def test_a_chart_fits_its_frame() -> None:
    chart = bar_chart([("a", 4.0, 1.0), ("b", 0.0, 0.0), ("c", 2.0, 5.0)], 6, at_right=True)

    assert 4.0 == chart.maximum
    assert [HEIGHT, 0, HEIGHT / 2] == [bar.height for bar in chart.bars]
    assert [HEIGHT / 4, 0, HEIGHT / 2] == [bar.part_height for bar in chart.bars]
    assert [WIDTH * n / 6 for n in (3, 4, 5)] == [bar.x for bar in chart.bars]
    assert all(bar.x + bar.width <= WIDTH for bar in chart.bars)


def test_a_chart_of_nothing_is_empty() -> None:
    assert ((), 0.0) == ((chart := bar_chart([])).bars, chart.maximum)
