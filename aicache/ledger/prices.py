"""What upstream charges for an answer, by the price list that genai-prices carries."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

from genai_prices import extract_usage

logger = logging.getLogger("aicache.ledger")


def price(message: Any) -> Decimal | None:
    """USD for a message as upstream sent it, prompt-cache reads and writes included; None where no price is known."""
    try:
        return extract_usage(message, provider_id="anthropic").calc_price().total_price
    except LookupError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        # A usage that the price list cannot read is no reason to fail the call that it belongs to.
        logger.info("no price for this usage: %s", error)
        return None
