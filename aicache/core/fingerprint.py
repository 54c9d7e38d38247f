"""Request → key: everything that can change the answer, nothing that cannot.

A deny-list, never an allow-list: a field, header or query parameter that is not known here is part of the key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import rfc8785

FORMAT: Final = 1  # goes into every key: raise it when the same request must get another one

# Fields at the top of the body that do not change the answer.
BODY_NOISE: Final[Mapping[str, str]] = {
    "stream": "how the answer travels, not what it says",
    "metadata": "who asks, for the provider's abuse statistics",
    "diagnostics": "asks for measurements beside the answer",
    "cache_control": "what the provider charges, not what it answers",
}

# Headers that do not change the answer.
HEADER_NOISE: Final[Mapping[str, str]] = {
    "authorization": "a credential",
    "proxy-authorization": "a credential",
    "x-api-key": "a credential",
    "cookie": "a credential",
    "accept": "set by the SDK for the way the answer travels",
    "accept-encoding": "how the answer travels",
    "accept-language": "the API does not read it; the language is the scope's locale",
    "connection": "how the request travels",
    "content-length": "how the request travels",
    "content-type": "the body is keyed as what it means, not as bytes",
    "user-agent": "who asks",
    "idempotency-key": "which attempt this is",
    "anthropic-version": "keyed by itself",
    "anthropic-beta": "keyed by itself, as a sorted set",
    "traceparent": "trace",
    "tracestate": "trace",
    "baggage": "trace",
    "b3": "trace",
    "sentry-trace": "trace",
    "uber-trace-id": "trace",
    "x-amzn-trace-id": "trace",
    "x-cloud-trace-context": "trace",
    "x-request-id": "trace",
    "x-correlation-id": "trace",
    "x-client-request-id": "trace",
}
HEADER_NOISE_PREFIXES: Final[Mapping[str, str]] = {
    "x-stainless-": "the SDK about itself: its version, its platform, its retries",
    "x-b3-": "trace",
    "x-datadog-": "trace",
    "x-ot-": "trace",
}


# Where blocks stand inside a block, by the outer one's type. All else in a block is data, which may well have a field
# called cache_control: a tool's input, an unknown kind of block.
NESTED: Final[Mapping[str, str]] = {
    "tool_result": "content",
    "mcp_tool_result": "content",
    "search_result": "content",
    "document": "source",
    "content": "content",  # a document's source that is made of blocks
    "web_fetch_tool_result": "content",
    "web_fetch_result": "content",
    "tool_search_tool_result": "content",
    "tool_search_tool_search_result": "tool_references",
    "tool_addition": "tool",
    "tool_definition": "definition",
    "compaction": "tool_changes",
}


@dataclass(frozen=True, slots=True)
class Question:
    """A request with all that its answer depends on, except whose it is: the tenant is a prefix outside the key."""

    path: str
    base_url: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    query: tuple[tuple[str, str], ...] = ()
    locale: str = ""
    tags: frozenset[str] = frozenset()
    sources: tuple[tuple[str, str], ...] = ()  # label and version of each row
    vary: tuple[str, ...] = ()
    variant: int = 0


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """``key`` names the answer. ``lineage``, the same without versions and tags, names the question."""

    key: str
    lineage: str


class Unkeyable(ValueError):
    """The body is no JSON, so that no key can say what it is."""


TOO_DEEP: Final = "it is nested too deeply"


def fingerprint(question: Question) -> Fingerprint:
    """Two hex digests of 64 characters. Raises Unkeyable."""
    try:
        stable, moving = parts(question)
    except RecursionError:
        raise Unkeyable(TOO_DEEP) from None
    lineage = canonical(stable)
    return Fingerprint(key=_digest(lineage + canonical(moving)), lineage=_digest(lineage))


def parts(question: Question) -> tuple[dict[str, Any], dict[str, Any]]:
    """All that goes into the key, by name: what makes the lineage, and what versions it."""
    headers = {name.lower(): value for name, value in question.headers.items()}
    stable = {
        "format": FORMAT,
        "path": question.path,
        "base_url": question.base_url.rstrip("/"),
        "query": sorted([name, value] for name, value in question.query),
        "version": headers.get("anthropic-version", ""),
        "betas": sorted({beta.strip() for beta in headers.get("anthropic-beta", "").split(",")} - {""}),
        "headers": {name: value for name, value in headers.items() if not is_noise(name)},
        "body": meaning(question.body),
        "locale": question.locale,
        "vary": list(question.vary),
        "variant": question.variant,
    }
    moving: dict[str, Any] = {"tags": sorted(question.tags)}
    if question.sources:
        moving["sources"] = dict(question.sources)
    return stable, moving


def is_noise(header: str) -> bool:
    return header in HEADER_NOISE or header.startswith(tuple(HEADER_NOISE_PREFIXES))


def meaning(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body without what cannot change the answer, with shorthands written out.

    ``cache_control`` is dropped only where the API reads it as a marker: a tool's parameter of that name stays.
    """
    kept = {name: value for name, value in body.items() if name not in BODY_NOISE}
    if "system" in kept:
        kept["system"] = _content(kept["system"])
    if isinstance(tools := kept.get("tools"), list | tuple):
        kept["tools"] = [_unmarked(tool) for tool in tools]
    if isinstance(messages := kept.get("messages"), list | tuple):
        kept["messages"] = [
            {**message, "content": _content(message["content"])}
            if isinstance(message, Mapping) and "content" in message
            else message
            for message in messages
        ]
    return kept


def _content(content: Any) -> Any:
    """Content as a list of blocks: a bare string is documented to mean one text block."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list | tuple):
        return [_block(block) for block in content]
    return content


def _block(block: Any) -> Any:
    if isinstance(block, list | tuple):
        return [_block(inner) for inner in block]
    if not isinstance(block, Mapping):
        return block
    block = _unmarked(block)
    kind = block.get("type")
    place = NESTED.get(kind) if isinstance(kind, str) else None
    if place is not None and place in block:
        block[place] = _content(block[place]) if kind == "tool_result" else _block(block[place])
    return block


def _unmarked(block: Any) -> Any:
    if not isinstance(block, Mapping):
        return block
    return {name: value for name, value in block.items() if name != "cache_control"}


def canonical(value: Any) -> bytes:
    """Canonical JSON by RFC 8785; integers that it has no form for are written out in full. Raises Unkeyable.

    Most bodies hold no fractions and only ASCII names; for these the C encoder writes the same bytes, much faster.
    """
    try:
        if _is_plain(value):
            return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            return rfc8785.dumps(value)
        except rfc8785.IntegerDomainError:
            # A tool's schema may well say {"maximum": 2**63 - 1}. Marked, so that no canonical text can equal it.
            text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            return b"exact integers:" + text.encode()
    except RecursionError:
        raise Unkeyable(TOO_DEEP) from None
    except (rfc8785.CanonicalizationError, TypeError, ValueError) as error:
        raise Unkeyable(str(error)) from error


_SAFE: Final = 2**53 - 1


def _is_plain(value: Any) -> bool:
    """Whether the C encoder's text is the canonical one: its floats and its order of non-ASCII names may differ."""
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -_SAFE <= value <= _SAFE
    if isinstance(value, dict):
        return all(isinstance(name, str) and name.isascii() and _is_plain(item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return False


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
