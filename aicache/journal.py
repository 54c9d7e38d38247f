"""One line for each call, for machines: at INFO, to the logger ``aicache.calls``. Nothing of what was said is in it."""

from __future__ import annotations

import json
import logging
import re
from typing import Final

from aicache.core.callinfo import SHORT, CallInfo
from aicache.tenants import Tenant, labelled

logger = logging.getLogger("aicache.calls")

PLAIN: Final = re.compile(r"[\w.:@/+()-]{1,120}")
LONGEST: Final = 120


def is_open() -> bool:
    """Whether anybody reads it. Asked before anything is made for it."""
    return logger.isEnabledFor(logging.INFO)


def write(*, info: CallInfo, tenant: Tenant | None, model: str, policy: str) -> None:
    """The fields are those of ``CallInfo`` as JSON has them, and ``tenant``, ``model`` and ``policy``."""
    fields: dict[str, str | float | bool | list[str] | None] = {
        "status": info.status,
        "reason": info.reason,
        "key": info.key,
        "tenant": labelled(tenant),
        "model": model,
        "policy": policy,
        "age": info.age,
        "expires_in": info.expires_in,
        "waited": info.waited,
        "saved_usd": None if info.saved_usd is None else float(info.saved_usd),
        "saved_tokens": info.saved_tokens,
        "stored": info.stored,
        "prompt_cache": info.prompt_cache,
        "tags": sorted(info.tags),
    }
    words = [
        info.status,
        *([f"reason={_word(info.reason)}"] if info.reason else []),
        f"key={info.key[:SHORT]}",
        f"tenant={_word(labelled(tenant))}",
        f"model={_word(model)}",
        f"policy={_word(policy)}",
        f"waited={info.waited:.3f}",
        "saved_usd=" if info.saved_usd is None else f"saved_usd={info.saved_usd:.6f}",
    ]
    logger.info("%s", " ".join(words), extra=fields)


def _word(text: str) -> str:
    """One word on one line, whatever others have made of it: a model's name comes with the request."""
    return text if PLAIN.fullmatch(text) or not text else json.dumps(text[:LONGEST])
