"""The price table: the same bill as genai-prices' own, to the last digit, and no bill where a price is missing."""

from __future__ import annotations

import functools
import math
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import genai_prices
import msgspec
import pytest
from genai_prices.data import providers
from genai_prices.data_units import unit_data
from genai_prices.types import ClauseEndsWith, ClauseRegex, StartDateConstraint, TimeOfDateConstraint
from hypothesis import given
from hypothesis import strategies as st
from recordings import index

from edge_extproc.accounting import compile_prices, prices
from edge_extproc.accounting.prices import MAX_CACHED, Override, PriceTable
from edge_extproc.errors import ConfigError, StartError
from edge_extproc.model.usage import BUCKETS, Usage

D = Decimal
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
# The plainest call; every bucket; a prompt long enough for the dearer tiers.
USAGES = (
    Usage(input=12, output=7),
    Usage(1_001, 203, 307, 409, 503, 601, 33, 44),
    Usage(input=260_001, cache_read=50_000, output=9),
    Usage(input=12, output=7, searches=3),
    Usage(input=50, input_image=323, output=12, output_image=1_290),
)
# What genai-prices would have us say explicitly, lest it guess.
_SILENCE = {name: 0 for name, unit in unit_data.items() if unit["dimensions"]["family"] == "tokens"}
_COVER = (
    ("input", ("input_mtok",)),
    ("cache_read", ("cache_read_mtok", "input_mtok")),
    ("cache_write", ("cache_write_5m_mtok", "cache_write_mtok", "input_mtok")),
    ("cache_write_1h", ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok")),
    ("input_audio", ("input_audio_mtok", "input_mtok")),
    ("input_image", ("input_image_mtok", "input_mtok")),
    ("output", ("output_mtok",)),
    ("reasoning", ("output_reasoning_mtok", "output_mtok")),
    ("output_audio", ("output_audio_mtok", "output_mtok")),
    ("output_image", ("output_image_mtok", "output_mtok")),
    ("searches", ("web_searches_kcount",)),
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prices.compiled(tmp_path_factory.mktemp("state"))


@functools.cache
def table(at: datetime = NOW) -> PriceTable:
    return PriceTable(rows().lists, clock=at.timestamp)


@functools.cache
def rows() -> prices.Compiled:
    """The compiled file's, without a child process."""
    return msgspec.convert(compile_prices.table(), prices.Compiled)


def theirs(usage: Usage) -> genai_prices.Usage:
    return genai_prices.Usage(
        **_SILENCE
        | {
            "input_tokens": usage.prompt,
            "cache_read_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
            "cache_write_5m_tokens": usage.cache_write,
            "cache_write_1h_tokens": usage.cache_write_1h,
            "input_audio_tokens": usage.input_audio,
            "input_image_tokens": usage.input_image,
            "output_tokens": usage.completion,
            "output_reasoning_tokens": usage.reasoning,
            "output_audio_tokens": usage.output_audio,
            "output_image_tokens": usage.output_image,
            "web_searches": usage.searches,
        }
    )


def expected(provider: str, model: str, usage: Usage, at: datetime = NOW) -> Decimal | None:
    """Their bill; None where they know no such model, or would give a part of the usage away."""
    try:
        bill = genai_prices.calc_price(theirs(usage), model, provider_id=provider, genai_request_timestamp=at)
    except LookupError:
        return None
    price = bill.model_price
    if any(getattr(usage, bucket) and all(getattr(price, key) is None for key in keys) for bucket, keys in _COVER):
        return None
    return bill.total_price


EVERY_MODEL = [(provider.id, model.id) for provider in providers for model in provider.models]


@pytest.mark.parametrize("usage", USAGES, ids=str)
def test_every_model_costs_what_genai_prices_says(usage: Usage) -> None:
    differing = [
        (provider, model)
        for provider, model in EVERY_MODEL
        if table().cost(provider, model, usage) != expected(provider, model, usage)
    ]

    assert differing == []


def test_searches_cost_what_the_row_or_the_list_says_and_no_tier_changes_it() -> None:
    usage = Usage(input=1_000_000, searches=2)
    rows_of_config = (
        Override("mine", "gpt-5", D(1), D(1), search=D(5), tiers={"flex": D("0.5")}),
        Override("mine", "gpt-5.1", D(1), D(1)),
        Override("mine", "unknown", D(1), D(1)),
    )
    own = PriceTable(rows().lists, rows_of_config, clock=NOW.timestamp)

    assert D("1.01") == own.cost("openai", "gpt-5", usage, host="mine")
    assert D("0.51") == own.cost("openai", "gpt-5", usage, host="mine", tiers=("flex",))
    assert D("1.02") == own.cost("openai", "gpt-5.1", usage, host="mine")
    assert own.cost("openai", "unknown", usage, host="mine") is None
    assert D(1) == own.cost("openai", "unknown", Usage(input=1_000_000), host="mine")
    assert (D("0.02"), None) == (own.search_cost("openai", "gpt-5", 2), own.search_cost("groq", "gpt-5", 2))


def test_a_row_for_searches_alone_leaves_the_price_of_tokens() -> None:
    usage = Usage(input=1_000_000, searches=2)
    rows_of_config = (
        Override("mine", "gpt-5", search=D(5)),
        Override("mine", "gpt-5", D(1), D(1), search=D(7)),
        Override("mine", "gpt-5.1", D(1), D(1)),
        Override("mine", "gpt-*", search=D(4)),
    )
    own = PriceTable(rows().lists, rows_of_config, clock=NOW.timestamp)
    tokens = own.cost("openai", "gpt-5-mini", Usage(input=1_000_000))

    assert tokens is not None
    assert D("1.01") == own.cost("openai", "gpt-5", usage, host="mine")
    assert D("1.008") == own.cost("openai", "gpt-5.1", usage, host="mine")
    assert tokens + D("0.008") == own.cost("openai", "gpt-5-mini", usage, host="mine")
    assert own.search_cost("openai", "gpt-5-mini", 2) == own.search_cost("openai", "gpt-5-mini", 2, host="another")
    assert D("0.008") != own.search_cost("openai", "gpt-5-mini", 2, host="another")


def test_every_recorded_model_costs_what_genai_prices_says() -> None:
    lists = {"gemini": "google", "vertex": "google", "bedrock": "aws", "xai": "x-ai"}
    asked = {(lists.get(row["provider"], row["provider"]), row["model"]) for row in index() if row["model"]}
    found = {pair: table().cost(*pair, USAGES[1]) for pair in asked}

    assert found == {pair: expected(*pair, USAGES[1]) for pair in asked}
    assert sum(cost is not None for cost in found.values()) > len(found) / 2


_SPELLINGS = st.sampled_from(
    [
        "{}",
        "{}-20251211",
        "{}-20251231:free",
        "{}-20251399",
        "{}-20250230",
        "{}-2025-08-07",
        "models/{}",
        "us.{}",
        "{}-latest",
        "x{}",
        "{}:batch",
    ]
)
_PROVIDERS = st.sampled_from(
    [*(each.id for each in providers), "OpenAI", " anthropic ", "xai", "google-vertex", "bedrock", "vllm", "mistralai"]
)
_MODELS = st.sampled_from([model for _, model in EVERY_MODEL])
_COUNTS = st.integers(0, 3_000_000)


@given(_PROVIDERS, _MODELS, _SPELLINGS, st.booleans(), st.builds(Usage, *[_COUNTS] * 8))
def test_any_spelling_of_a_model_is_found_or_not_as_genai_prices_finds_it(
    provider: str, model: str, spelling: str, loud: bool, usage: Usage
) -> None:
    name = spelling.format(model)
    name = name.upper() if loud else name

    assert table().cost(provider, name, usage) == expected(provider, name, usage)


@pytest.mark.parametrize(
    "at",
    [datetime(2024, 1, 1, tzinfo=UTC), *(datetime(2025, 6, 1, hour, 29, 59, tzinfo=UTC) for hour in (8, 20))],
    ids=str,
)
def test_the_price_is_that_of_the_day_and_the_hour(at: datetime) -> None:
    dated = [(each.id, model.id) for each in providers for model in each.models if isinstance(model.prices, list)]

    assert dated
    assert [table(at).cost(*pair, USAGES[0]) for pair in dated] == [expected(*pair, USAGES[0], at) for pair in dated]


def test_the_price_changes_while_the_table_is_in_use() -> None:
    now = [0.0]
    dear = prices.Rates(input=prices.Rate(D(2)), output=prices.Rate(D(2)))
    cheap = prices.Rates(input=prices.Rate(D(1)), output=prices.Rate(D(1)))
    model = prices.Model(
        prices.Equals("m"), (prices.Dated(prices.From(100), dear), prices.Dated(prices.Daily(86_000, 400), cheap))
    )
    changing = PriceTable([prices.PriceList("p", None, (), (model,))], clock=lambda: now[0])

    def at(moment: float) -> Decimal | None:
        now[0] = moment
        return changing.cost("p", "m", Usage(input=1))

    assert [at(50), at(399.9), at(400), at(86_000), at(85_999)] == [1, 1, 2, 1, 2]
    # The time of none: the first.
    first = PriceTable(
        [prices.PriceList("p", None, (), (prices.Model(prices.Equals("m"), model.prices[:1] * 2),))], clock=lambda: 7.0
    )
    assert first.cost("p", "m", Usage(input=1)) == 2


@pytest.mark.parametrize(
    ("clause", "name", "fits"),
    [
        (prices.Ends("-mini"), "gpt-mini", True),
        (prices.Ends("-mini"), "gpt-minis", False),
        (prices.AllOf((prices.Starts("g"), prices.Contains("pt"))), "gpt", True),
        (prices.AllOf((prices.Starts("g"), prices.Contains("x"))), "gpt", False),
        (prices.AnyOf(()), "gpt", False),
        (prices.Regex("^g.t$"), "gpt", True),
    ],
)
def test_a_clause_fits_as_it_reads(clause: prices.Clause, name: str, fits: bool) -> None:
    assert prices.fits(clause, name) is fits


# --- unpriced


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "no-such-model"), ("no-such-host", "gpt-4o"), ("", "gpt-4o"), ("vllm", "gpt-4o"), ("openai", "")],
)
def test_what_no_list_knows_is_unpriced(provider: str, model: str) -> None:
    assert table().cost(provider, model, USAGES[0]) is None


def test_a_model_listed_without_a_price_is_unpriced_not_free() -> None:
    assert table().cost("azure", "mai-ds-r1:free", USAGES[0]) is None
    assert table().cost("azure", "mai-ds-r1:free", Usage()) is None


def test_a_model_sold_by_the_hour_is_unpriced_by_tokens() -> None:
    assert table().cost("groq", "whisper-large-v3", USAGES[0]) is None


def test_an_answer_of_a_model_that_has_only_a_prompt_price_is_unpriced() -> None:
    assert table().cost("openai", "text-embedding-3-small", Usage(input=5)) == D("0.0000001")
    assert table().cost("openai", "text-embedding-3-small", Usage(input=5, output=1)) is None


def test_a_count_below_zero_makes_no_bill_smaller() -> None:
    assert table().cost("openai", "gpt-4o", Usage(input=-100, output=10)) is None


def test_a_priced_model_that_used_nothing_costs_nothing() -> None:
    assert table().cost("openai", "gpt-4o", Usage()) == 0


def test_a_request_has_its_own_price_where_the_list_says_so() -> None:
    assert table().cost("perplexity", "sonar", Usage()) == expected("perplexity", "sonar", Usage())
    assert table().cost("perplexity", "sonar", Usage()) != 0


# --- config's own prices

_HOUSE = Override("house", "llama-*", input=D("0.2"), output=D("0.6"))


def test_a_row_of_config_prices_a_host_that_no_list_knows() -> None:
    own = table().with_overrides([_HOUSE])

    assert own.cost("", "llama-4", Usage(input=1_000_000, output=500_000), host="house") == D("0.5")
    assert own.cost("", "llama-4", Usage(input=1), host="other") is None
    assert own.cost("", "gpt-4o", Usage(input=1), host="house") is None
    assert table().cost("", "llama-4", Usage(input=1), host="house") is None


def test_a_row_of_config_wins_over_the_list_and_the_first_row_over_the_next() -> None:
    own = (
        table()
        .with_overrides([Override("openai", "gpt-4o", input=D(7))])
        .with_overrides([Override("openai", "gpt-4o", input=D(9))])
    )

    assert own.cost("openai", "gpt-4o", Usage(input=1_000_000), host="openai") == 9
    assert own.cost("openai", "gpt-4o-mini", USAGES[0], host="openai") == table().cost(
        "openai", "gpt-4o-mini", USAGES[0]
    )


def test_a_row_is_for_its_provider_and_not_for_another_of_the_same_list() -> None:
    own = table().with_overrides([Override("openai", "gpt-4o", input=D(9))])

    assert own.cost("openai", "gpt-4o", USAGES[0], host="second") == table().cost("openai", "gpt-4o", USAGES[0])


def test_a_bucket_without_a_price_of_its_own_costs_what_the_wider_one_costs() -> None:
    own = PriceTable(overrides=[_HOUSE])
    each = Usage(*[1_000_000] * 10)

    assert own.cost("", "llama-4", each, host="house") == 6 * D("0.2") + 4 * D("0.6")


def test_each_bucket_can_have_its_own_price() -> None:
    row = Override("house", "m", D(1), D(2), D(4), D(8), D(16), D(32), D(64), D(128), D(256), D(512))

    assert PriceTable(overrides=[row]).cost("", "m", Usage(*[1_000_000] * 10), host="house") == 1_023


def test_the_cost_of_each_bucket_is_its_part_of_the_whole() -> None:
    row = Override(
        "house", "m", D(1), D(2), D(4), D(8), D(16), D(32), D(64), D(128), D(256), D(512), tiers={"fast": D(2)}
    )
    own, each = PriceTable(overrides=[row]), Usage(*[1_000_000] * 10)
    alone = {name: own.cost("", "m", Usage(**{name: 1_000_000}), host="house") for name in BUCKETS}

    assert alone == own.costs("", "m", each, host="house")
    assert 2 * 1_023 == sum(own.costs("", "m", each, host="house", tiers=("fast",)).values())
    assert {} == own.costs("", "unknown", each)
    assert {"input": D(1)} == own.costs("", "m", Usage(input=1_000_000, output=-5), host="house")


@pytest.mark.parametrize("usage", USAGES, ids=str)
def test_the_buckets_of_every_model_add_up_to_its_cost(usage: Usage) -> None:
    empty = Usage()
    differing = [
        (provider, model)
        for provider, model in EVERY_MODEL
        if (cost := table().cost(provider, model, usage)) is not None
        and cost != sum(table().costs(provider, model, usage).values(), table().cost(provider, model, empty))
        and not usage.searches
    ]

    assert [] == differing


def test_a_row_of_zeros_is_free_because_someone_said_so() -> None:
    own = PriceTable(overrides=[Override("house", "*", input=D(0), output=D(0))])

    assert own.cost("", "anything", USAGES[0], host="house") == 0


# --- memory


def test_a_request_in_a_batch_has_the_factor_of_its_host_or_of_its_row() -> None:
    own = Override("mine", "big*", Decimal(1), Decimal(2), tiers={"batch": Decimal("0.6"), "flex": Decimal("0.4")})
    priced = table().with_overrides([own])
    factors = [
        priced.batch_factor(provider, model, host=host)
        for provider, model, host in (
            ("openai", "gpt-4o-mini", "a"),
            ("anthropic", "claude-haiku-4-5", "b"),
            ("", "big-1", "mine"),
            ("", "llama", "vllm"),
        )
    ]

    assert [Decimal("0.5"), Decimal("0.5"), Decimal("0.6"), Decimal(1)] == factors


def test_a_call_alone_does_not_get_the_price_of_a_batch() -> None:
    own = Override("mine", "big*", Decimal(1), Decimal(2), tiers={"batch": Decimal("0.6"), "flex": Decimal("0.4")})
    priced, usage = table().with_overrides([own]), Usage(input=1_000_000)

    assert Decimal(1) == priced.cost("", "big-1", usage, host="mine", tiers=["batch"])
    assert Decimal("0.4") == priced.cost("", "big-1", usage, host="mine", tiers=["flex"])


def test_passing_model_names_do_not_fill_the_memory() -> None:
    own = PriceTable(overrides=[_HOUSE])
    for number in range(MAX_CACHED + 100):
        own.cost("house", f"llama-{number}", USAGES[0])
    own.cost("house", "llama-" + "x" * 1_000, USAGES[0])

    assert len(own._cached) == MAX_CACHED


# --- the compiled file


def test_the_child_process_writes_what_this_process_would(compiled: Path) -> None:
    loaded = prices.load(compiled)

    assert msgspec.json.decode(compiled.read_bytes()) == msgspec.to_builtins(compile_prices.table())
    assert loaded.cost("openai", "gpt-4o", USAGES[0]) == table().cost("openai", "gpt-4o", USAGES[0])
    assert {path.name for path in compiled.parent.iterdir()} == {compiled.name, "prices.lock"}


def test_no_file_of_the_table_can_be_read_by_other_users(tmp_path: Path) -> None:
    """Otherwise the next start would report that it has made them private."""
    before = os.umask(0o022)
    try:
        prices.compiled(tmp_path)
    finally:
        os.umask(before)

    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}


def test_it_is_compiled_once_a_version(compiled: Path) -> None:
    before = compiled.stat().st_mtime_ns

    assert prices.compiled(compiled.parent) == compiled
    assert compiled.stat().st_mtime_ns == before


def test_processes_that_start_together_compile_once(tmp_path: Path) -> None:
    together = threading.Barrier(2)

    def inode(_: int) -> int:
        together.wait()
        return prices.compiled(tmp_path).stat().st_ino

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(inode, range(2))

    assert first == second == prices.compiled(tmp_path).stat().st_ino


def test_both_files_speak_of_the_same_format() -> None:
    assert compile_prices.FORMAT == prices.FORMAT


@pytest.mark.parametrize("text", ["", "{}", '{"format":1,"source":"","lists":[{"id":7}]}', "\x00"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    damaged = tmp_path / "prices.json"
    damaged.write_text(text)

    with pytest.raises(ConfigError, match=r"prices\.json"):
        prices.load(damaged)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        prices.load(tmp_path / "absent")


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "prices.json"
    old.write_text('{"format":0,"source":"","lists":[]}')

    with pytest.raises(ConfigError, match="format 0, not 3"):
        prices.load(old)


def test_a_state_directory_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    in_the_way = tmp_path / "state"
    in_the_way.write_text("a file")

    with pytest.raises(StartError, match="cannot write the price table"):
        prices.compiled(in_the_way / "below")


def test_a_compiler_that_fails_stops_the_start_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot compile the price table: IsADirectoryError"):
        prices._compile(tmp_path)


def test_a_compiler_that_hangs_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"took longer than 0\.001 s"):
        prices._compile(tmp_path / "never", timeout=0.001)


def test_regular_expressions_and_times_are_compiled_as_they_are() -> None:
    east = timezone(timedelta(hours=2))

    assert compile_prices.clause(ClauseRegex("^A.b$")) == ["regex", "^A.b$"]
    assert compile_prices.clause(ClauseEndsWith("-Mini")) == ["ends", "-mini"]
    assert compile_prices.when(StartDateConstraint(date(1970, 1, 2))) == ["from", 86_400]
    assert compile_prices.when(TimeOfDateConstraint(time(1, 0, tzinfo=east), time(3))) == ["daily", 82_800, 10_800]


def test_no_price_in_the_table_is_rounded() -> None:
    listed = [price.rates for each in rows().lists for m in each.models for price in m.prices]
    rates = [rate for row in listed for rate in (row.input, row.output, row.cache_read) if rate is not None]

    assert rates
    assert all(len(rate.base.as_tuple().digits) < 20 for rate in rates)
    assert not math.isnan(sum(rate.base for rate in rates))


@pytest.mark.parametrize("caches", [False, True])
@pytest.mark.parametrize("sounds", [False, True])
def test_the_most_of_some_tokens_is_what_the_dearest_of_their_buckets_cost(caches: bool, sounds: bool) -> None:
    """Of every model of the table, a prompt that is short, and one that passes each tier."""
    prompts = [
        "input",
        "input_image",
        *(["cache_write", "cache_write_1h"] if caches else []),
        *(["input_audio"] if sounds else []),
    ]
    answers = ["output", "reasoning", "output_image", *(["output_audio"] if sounds else [])]
    prices = table()
    for provider, model in [
        ("openai", "gpt-4o"),
        ("openai", "gpt-realtime"),
        ("google", "gemini-2.5-pro"),
        ("google", "gemini-2.5-flash-image"),
        ("anthropic", "claude-sonnet-4-5"),
    ]:
        for prompt in (1_000, 500_000):
            bills = [
                prices.cost(provider, model, Usage(**{asked: prompt, answered: 100}))
                for asked in prompts
                for answered in answers
            ]
            most = prices.max_cost(provider, model, prompt, 100, caches=caches, audio=sounds)

            assert most == max(bill for bill in bills if bill is not None)
    assert prices.max_cost("openai", "unheard-of", 1, 1) is None
    assert prices.max_cost("openai", "text-embedding-3-small", 5, 0) == D("0.0000001")
    assert prices.max_cost("openai", "text-embedding-3-small", 5, 1) is None
