"""What upstream charges for an answer, by the price list that genai-prices carries."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from genai_prices import extract_usage

logger = logging.getLogger("aicache.ledger")

READ: Final = "cache_read_input_tokens"
WRITTEN: Final = "cache_creation_input_tokens"
WRITTEN_FOR: Final = "cache_creation"  # the same tokens, by how long they are kept
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
    tokens = sum(_whole(usage.get(name)) for name in COUNTED)
    usd = _usd(message)
    written = _whole(usage.get(WRITTEN))
    if usd is None or not written:
        return Price(usd, tokens=tokens)
    plain = {name: count for name, count in usage.items() if name not in (WRITTEN, WRITTEN_FOR)}
    unwritten = _usd({**message, "usage": {**plain, "input_tokens": _whole(usage.get("input_tokens")) + written}})
    premium = Decimal(0) if unwritten is None else max(usd - unwritten, Decimal(0))
    return Price(usd, premium, tokens)


def _usd(message: Any) -> Decimal | None:
    try:
        return extract_usage(message, provider_id="anthropic").calc_price().total_price
    except LookupError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        # A usage that the price list cannot read is no reason to fail the call that it belongs to.
        logger.info("no price for this usage: %s", error)
        return None


def _whole(count: Any) -> int:
    return count if type(count) is int and count > 0 else 0
