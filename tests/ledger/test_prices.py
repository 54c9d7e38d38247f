"""What an answer cost, by its usage."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from genai_prices import extract_usage

from aicache.ledger.prices import Price, price

MODEL = "claude-sonnet-5"


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
    told = message("claude-of-the-far-future", cache_creation_input_tokens=10, cache_read_input_tokens=1)
    assert price(told) == Price(None, Decimal(0), 131)


@pytest.mark.parametrize(
    "odd",
    [
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
    ],
)
def test_whatever_it_is_given_it_raises_nothing(odd: Any) -> None:
    found = price(odd)
    assert found.premium == 0
    assert found.tokens in (0, 5)
