"""What an answer cost, by its usage."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from genai_prices import extract_usage

from aicache.core.usage import Usage
from aicache.ledger import prices as module
from aicache.ledger.prices import READ, SHORT_LIFE, WRITTEN, Price, price, rewriting, worth

MODEL = "claude-sonnet-5"
DEARER = "claude-sonnet-4-5"  # where there are more than 200,000 tokens
FUTURE = "claude-of-the-far-future"
MINUTES, HOUR = 300.0, 3600.0


def message(model: str = MODEL, **usage: Any) -> dict[str, Any]:
    return {"model": model, "usage": {"input_tokens": 100, "output_tokens": 20, **usage}}


def paid(told: dict[str, Any]) -> Decimal:
    total: Decimal = extract_usage(told, provider_id="anthropic").calc_price().total_price
    return total


def test_it_is_what_the_price_list_says() -> None:
    told = message(cache_read_input_tokens=3000)
    assert price(told) == Price(paid(told), Decimal(0), 3120)
    assert price(told).usd != price(message()).usd


@pytest.mark.parametrize("lasting", [{}, {"ephemeral_5m_input_tokens": 4000}, {"ephemeral_1h_input_tokens": 4000}])
def test_the_premium_is_what_writing_the_prompt_cache_costs_beyond_the_plain_tokens(lasting: dict[str, int]) -> None:
    told = message(
        cache_creation_input_tokens=4000,
        cache_read_input_tokens=1000,
        **({"cache_creation": lasting} if lasting else {}),
    )
    plain = message(cache_read_input_tokens=1000)
    plain["usage"]["input_tokens"] += 4000

    found = price(told)

    assert found == Price(paid(told), paid(told) - paid(plain), 5120)
    assert found.premium > 0


def test_an_hours_premium_is_the_larger_one() -> None:
    def premium(name: str) -> Decimal:
        return price(message(cache_creation_input_tokens=4000, cache_creation={name: 4000})).premium

    assert premium("ephemeral_1h_input_tokens") > premium("ephemeral_5m_input_tokens")


def test_of_a_model_without_a_known_price_the_tokens_are_known() -> None:
    told = message(FUTURE, cache_creation_input_tokens=10, cache_read_input_tokens=1)
    assert price(told) == Price(None, Decimal(0), 131)


ODD = [
    None,
    [],
    "text",
    {},
    {"usage": None},
    {"usage": []},
    {"model": MODEL, "usage": {}},
    {"model": 7, "usage": {"input_tokens": 5}},
    {"model": MODEL, "usage": {"input_tokens": "many", "output_tokens": None}},
    {"model": MODEL, "usage": {"input_tokens": -5, "output_tokens": True}},
    {"model": MODEL, "usage": {"input_tokens": 5, "cache_creation_input_tokens": 2.5}},
]


@pytest.mark.parametrize("odd", ODD)
def test_whatever_it_is_given_it_raises_nothing(odd: Any) -> None:
    found = price(odd)
    assert found.premium == 0
    assert found.tokens in (0, 5)


@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", WRITTEN, READ, "lasting"])
@pytest.mark.parametrize("absurd", [10**10, 2**63, 10**400])
def test_counts_that_no_answer_has_are_not_believed(name: str, absurd: int) -> None:
    told = message(**({WRITTEN: 9, "cache_creation": {SHORT_LIFE: absurd}} if name == "lasting" else {name: absurd}))
    found = price(told)
    assert found.tokens <= 129
    assert found.usd is None or found.usd < 10**4
    assert found.premium < 10**4
    assert (rewriting(told, 9, MINUTES, read=False) or 0) < 10**4
    assert (rewriting(told, 9, MINUTES, read=True) or 0) < 10**4
    use = Usage.of(told)
    assert use is None or use.total <= 9


def cached(read: int = 0, short: int = 0, long: int = 0, *, model: str = MODEL) -> dict[str, Any]:
    """A message that says how many tokens were read, and written for five minutes and for an hour."""
    by_life = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}
    return message(
        model, cache_read_input_tokens=read, cache_creation_input_tokens=short + long, cache_creation=by_life
    )


FEW_AND_MANY = pytest.mark.parametrize(("model", "times"), [(MODEL, 1), (DEARER, 1), (DEARER, 60)])
ODD_COUNTS = [
    {**cached(9, 9), "usage": {**cached(9, 9)["usage"], **odd}}
    for odd in (
        {"cache_creation": {}},
        {"cache_creation": {"ephemeral_5m_input_tokens": "many", "ephemeral_1h_input_tokens": None}},
        {"cache_creation": {"ephemeral_5m_input_tokens": 10**6}},
        {"cache_creation": ["ephemeral_5m_input_tokens"]},
        {"cache_read_input_tokens": None, "cache_creation_input_tokens": None},
        {"cache_read_input_tokens": "9", "cache_creation_input_tokens": -9},
        {"cache_read_input_tokens": float("nan"), "cache_creation_input_tokens": float("inf")},
    )
]


class TestRewriting:
    @FEW_AND_MANY
    @pytest.mark.parametrize(
        ("life", "said", "tokens", "had_it_read"),
        [
            (MINUTES, (1000, 4000, 0), 4000, (5000, 0, 0)),
            (MINUTES, (0, 4000, 500), 3000, (3000, 1000, 500)),
            (MINUTES, (0, 1000, 3000), 2000, (2000, 0, 2000)),
            (HOUR, (0, 500, 4000), 4000, (4000, 500, 0)),
            (HOUR, (0, 1000, 3000), 3500, (3500, 500, 0)),
        ],
    )
    def test_of_what_was_written_costs_what_reading_it_would_have_spared(
        self,
        model: str,
        times: int,
        life: float,
        said: tuple[int, int, int],
        tokens: int,
        had_it_read: tuple[int, int, int],
    ) -> None:
        told, read = (cached(*(times * count for count in counts), model=model) for counts in (said, had_it_read))
        found = rewriting(told, times * tokens, life, read=False)
        assert found == paid(told) - paid(read)
        assert found > 0

    @FEW_AND_MANY
    @pytest.mark.parametrize(
        ("life", "said", "tokens", "had_it_written"),
        [
            (MINUTES, (4000, 0, 0), 4000, (0, 4000, 0)),
            (MINUTES, (4000, 100, 200), 1500, (2500, 1600, 200)),
            (HOUR, (4000, 0, 0), 4000, (0, 0, 4000)),
            (HOUR, (4000, 100, 200), 1500, (2500, 100, 1700)),
        ],
    )
    def test_of_what_was_read_costs_what_writing_it_would_have(
        self,
        model: str,
        times: int,
        life: float,
        said: tuple[int, int, int],
        tokens: int,
        had_it_written: tuple[int, int, int],
    ) -> None:
        told, written = (cached(*(times * count for count in counts), model=model) for counts in (said, had_it_written))
        found = rewriting(told, times * tokens, life, read=True)
        assert found == paid(written) - paid(told)
        assert found > 0

    @pytest.mark.parametrize("unsaid", [{}, {"cache_creation": None}, {"cache_creation": "text"}])
    def test_where_it_is_not_said_for_how_long_something_was_written_it_is_for_minutes(
        self, unsaid: dict[str, Any]
    ) -> None:
        wrote = message(cache_creation_input_tokens=4000, **unsaid)
        assert rewriting(wrote, 3000, MINUTES, read=False) == paid(cached(0, 4000)) - paid(cached(3000, 1000)) > 0

        read = message(cache_read_input_tokens=4000, **unsaid)
        assert rewriting(read, 3000, MINUTES, read=True) == paid(cached(1000, 3000)) - paid(cached(4000)) > 0
        assert rewriting(read, 3000, HOUR, read=True) == paid(cached(1000, 0, 3000)) - paid(cached(4000)) > 0

    def test_of_more_than_there_is_costs_what_all_of_it_does(self) -> None:
        wrote, read = cached(500, 4000), cached(4000, 500)
        assert rewriting(wrote, 9000, MINUTES, read=False) == rewriting(wrote, 4000, MINUTES, read=False) != 0
        assert rewriting(read, 9000, MINUTES, read=True) == rewriting(read, 4000, MINUTES, read=True) != 0

    @pytest.mark.parametrize("read", [False, True])
    def test_of_nothing_costs_nothing(self, read: bool) -> None:
        assert rewriting(cached(4000, 4000, 4000), 0, MINUTES, read=read) == 0

    @pytest.mark.parametrize("read", [False, True])
    def test_has_no_price_where_the_model_has_none(self, read: bool) -> None:
        assert rewriting(cached(4000, 4000, model=FUTURE), 1000, MINUTES, read=read) is None

    @pytest.mark.parametrize("read", [False, True])
    def test_is_never_less_than_nothing(self, read: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not even where a price list has it that reading is the dearer one."""
        monkeypatch.setattr(module, "_usd", lambda told: Decimal(told["usage"]["cache_read_input_tokens"]))
        assert rewriting(cached(4000, 4000), 1000, MINUTES, read=read) == 0

    @pytest.mark.parametrize("read", [False, True])
    @pytest.mark.parametrize("life", [0.0, MINUTES, HOUR])
    @pytest.mark.parametrize("odd", [*ODD, *ODD_COUNTS])
    def test_raises_nothing_whatever_it_is_given(self, odd: Any, life: float, read: bool) -> None:
        for tokens in (4, 10**9, -4, None, "many", 2.5, float("nan")):
            found = rewriting(odd, tokens, life, read=read)  # type: ignore[arg-type]  # that is what it is about
            assert found is None or found >= 0


class TestWorth:
    @pytest.mark.parametrize(
        ("life", "written"),
        [(0.0, (0, 4000, 0)), (MINUTES, (0, 4000, 0)), (MINUTES + 1, (0, 0, 4000)), (HOUR, (0, 0, 4000))],
    )
    def test_is_what_writing_costs_beyond_reading(self, life: float, written: tuple[int, int, int]) -> None:
        assert worth(MODEL, 4000, life) == paid(cached(*written)) - paid(cached(4000)) > 0

    def test_is_that_of_few_tokens_where_many_are_dearer(self) -> None:
        few, many = worth(DEARER, 4000, MINUTES), worth(DEARER, 400_000, MINUTES)
        assert few is not None
        assert many == 100 * few < paid(cached(0, 400_000, model=DEARER)) - paid(cached(400_000, model=DEARER))

    @pytest.mark.parametrize("model", ["", FUTURE, "gpt-4o"])
    def test_is_not_known_of_a_model_without_a_known_price(self, model: str) -> None:
        assert worth(model, 4000, MINUTES) is None
