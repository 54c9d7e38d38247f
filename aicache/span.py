"""What the OpenTelemetry span of a call has to say of the cache."""

from __future__ import annotations

from opentelemetry.trace import Span

from aicache.core.callinfo import SHORT, CallInfo
from aicache.tenants import Tenant, labelled


def mark(span: Span, info: CallInfo, tenant: Tenant | None, policy: str) -> None:
    """Of several attempts, and of a stream's beginning and end, the last word stands."""
    span.set_attributes(
        {
            "aicache.status": info.status,
            "aicache.reason": info.reason,
            "aicache.key": info.key[:SHORT],
            "aicache.tenant": labelled(tenant),
            "aicache.policy": policy,
            "aicache.age": info.age,
            "aicache.waited": info.waited,
            "aicache.stored": info.stored,
            "aicache.prompt_cache": info.prompt_cache,
        }
    )
    if info.saved_usd is not None:
        span.set_attribute("aicache.saved_usd", float(info.saved_usd))
