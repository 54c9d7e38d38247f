"""What is told of a call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from aicache.core.records import Served, Status
from aicache.core.usage import State

SHORT: Final = 12
"""So many characters of a key are enough for people to tell it from others."""


@dataclass(frozen=True, slots=True)
class CallInfo:
    """What the cache did with one call; ``aicache.info(answer)`` and ``Calls`` give it.

    ``status``: one word, see the docs. ``reason``: one machine-readable ``word`` or ``word:detail``, or "".
    ``key``: the answer's key, "" where the call had none. ``age``: seconds since the answer came from upstream.
    ``expires_in``: seconds for which it will still be fresh; None where it was not kept. ``waited``: seconds spent
    waiting for somebody else's call, also at the prompt-cache gate. ``saved_usd``: what upstream would have charged;
    None where the model has no known price. ``saved_tokens``: for so many, in and out. ``stored``: whether the answer
    is in the cache now.
    ``prompt_cache``: what the call did at that gate: it was the one to ``lead``, had to ``wait``, found it ``open``;
    ``off`` where there was none. ``cache_miss_reason``: why the provider found no more of the prompt's prefix in its
    cache; "" where it does not say, as it only does for requests with ``diagnostics``.
    """

    status: Status
    reason: str = ""
    key: str = ""
    age: float = 0.0
    expires_in: float | None = None
    tags: frozenset[str] = frozenset()
    waited: float = 0.0
    saved_usd: Decimal | None = Decimal(0)
    saved_tokens: int = 0
    stored: bool = False
    prompt_cache: State = "off"
    cache_miss_reason: str = ""

    @classmethod
    def of(cls, served: Served, key: str, tags: frozenset[str]) -> CallInfo:
        entry = served.entry
        use = served.own.use if served.own is not None else None
        info = cls(
            served.status,
            served.reason,
            key,
            tags=tags,
            waited=served.waited if use is None else served.waited + use.waited,
            prompt_cache="off" if use is None else use.state,
            cache_miss_reason="" if use is None else use.miss_reason,
        )
        if entry is None:
            return info
        return replace(
            info,
            age=max(served.now - entry.stored_at, 0.0),
            expires_in=max(entry.fresh_until - served.now, 0.0) if served.stored else None,
            saved_usd=Decimal(0) if served.own is not None else entry.answer.usd,
            saved_tokens=0 if served.own is not None else entry.answer.tokens,
            stored=served.stored,
        )
