"""What upstream charges for an answer, by the price list that genai-prices carries."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from genai_prices import extract_usage

from aicache.core.usage import counted

logger = logging.getLogger("aicache.ledger")

READ: Final = "cache_read_input_tokens"
WRITTEN: Final = "cache_creation_input_tokens"
WRITTEN_FOR: Final = "cache_creation"  # the same tokens, by how long they are kept
SHORT_LIFE, LONG_LIFE = "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"
SHORT: Final = 300.0  # seconds
FEW: Final = 1000  # more are dearer with some models
ABSURD: Final = 10**4  # dollars, for one answer
COUNTED: Final = ("input_tokens", "output_tokens", WRITTEN, READ)


@dataclass(frozen=True, slots=True)
class Price:
    """``usd``: None where no price is known. ``premium``: how much of it was for writing the prompt cache, beyond what
    the same tokens cost unwritten. ``tokens``: all that upstream counted, in and out."""

    usd: Decimal | None = None
    premium: Decimal = Decimal(0)
    tokens: int = 0


def price(message: Any) -> Price:
    """For a message as upstream sent it, by the prices of today. Raises nothing, whatever it is given."""
    usage = message.get("usage") if isinstance(message, Mapping) else None
    if not isinstance(usage, Mapping):
        return Price()
    tokens = sum(counted(usage.get(name)) for name in COUNTED)
    usd = _usd(message)
    written = counted(usage.get(WRITTEN))
    if usd is None or not written:
        return Price(usd, tokens=tokens)
    plain = {name: count for name, count in usage.items() if name not in (WRITTEN, WRITTEN_FOR)}
    unwritten = _usd({**message, "usage": {**plain, "input_tokens": counted(usage.get("input_tokens")) + written}})
    premium = Decimal(0) if unwritten is None else max(usd - unwritten, Decimal(0))
    return Price(usd, premium, tokens)


def worth(model: str, tokens: int, life: float) -> Decimal | None:
    """About what it costs to write so many tokens for a ``life`` in seconds, beyond reading them."""
    by_token = _worth(model, is_long=life > SHORT)
    return None if by_token is None else by_token * tokens


@lru_cache(maxsize=256)
def _worth(model: str, *, is_long: bool) -> Decimal | None:
    """Of one token, where there are few."""
    told = {"model": model, "usage": {"input_tokens": 0, "output_tokens": 0, READ: FEW}}
    found = rewriting(told, FEW, 2 * SHORT if is_long else SHORT, read=True)
    return None if found is None else found / FEW


def rewriting(message: Any, tokens: int, life: float, *, read: bool) -> Decimal | None:
    """What so many of the tokens of a message, which it has ``read``, or else written for a ``life`` in seconds, cost
    when they are written beyond what they cost when they are read. None where no price is known. Raises nothing."""
    usage = message.get("usage") if isinstance(message, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    tokens = min(counted(tokens), counted(usage.get(READ if read else WRITTEN)))
    more = tokens if read else -tokens
    written_for = usage.get(WRITTEN_FOR)
    by_life = dict(written_for) if isinstance(written_for, Mapping) else {LONG_LIFE: 0}
    first, second = (LONG_LIFE, SHORT_LIFE) if life > SHORT else (SHORT_LIFE, LONG_LIFE)
    known = counted(by_life.get(first))
    by_life[first] = max(known + more, 0)
    by_life[second] = max(counted(by_life.get(second)) + min(known + more, 0), 0)
    written, left = counted(usage.get(WRITTEN)) + more, counted(usage.get(READ)) - more
    moved = {**usage, WRITTEN: written, READ: left, WRITTEN_FOR: by_life}
    own, other = _usd(message), _usd({**message, "usage": moved})
    if own is None or other is None:
        return None
    return max(other - own if read else own - other, Decimal(0))


def _usd(message: Any) -> Decimal | None:
    try:
        usd = extract_usage(message, provider_id="anthropic").calc_price().total_price
    except LookupError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        # A usage that the price list cannot read is no reason to fail the call that it belongs to.
        logger.info("no price for this usage: %s", error)
        return None
    return usd if usd < ABSURD else None
