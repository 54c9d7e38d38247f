"""Questions to Claude, from a tenant's own articles."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import anthropic
from django.conf import settings
from django.utils.translation import get_language, get_language_info

import aicache
from example_project.helpcentre.catalogue import catalogue
from example_project.helpcentre.models import Article
from example_project.helpcentre.tenancy import Tenant

logger = logging.getLogger(__name__)

MOST_TOKENS: Final = 1000
ALL_ARTICLES: Final = "helpcentre.article"
PATIENCE: Final = 60.0  # seconds: a visitor will not wait longer

PROMPT: Final = """\
You answer questions of visitors to the help-centre of {name}. Use the articles below and nothing else; where they do
not say, tell the visitor so. Answer in {language}, in three sentences at most, as plain text.

{articles}"""


@dataclass(frozen=True, slots=True)
class Answer:
    """``info``: what the cache did. ``first``: seconds until the first word was there, of the ``seconds`` in all.

    ``tokens_read``, ``tokens_written``: of the provider's prompt cache, where Claude was called.
    """

    text: str
    info: aicache.CallInfo
    seconds: float
    first: float = 0.0
    tokens_read: int = 0
    tokens_written: int = 0


class NoAnswer(Exception):
    """Claude could not be asked, or gave no answer. ``info`` is None where the call had not even begun."""

    def __init__(self, info: aicache.CallInfo | None, seconds: float) -> None:
        super().__init__("Claude gave no answer")
        self.info = info
        self.seconds = seconds


@cache
def client() -> anthropic.Anthropic:
    """The process's client, made when it is first needed. The stand-in is never shown a real key."""
    url = settings.HELPCENTRE_CLAUDE_URL
    key = "stand-in" if url else None
    return aicache.wrap(anthropic.Anthropic(base_url=url, api_key=key, timeout=PATIENCE))


def ask(
    tenant: Tenant,
    question: str,
    article: Article | None = None,
    *,
    refresh: bool = False,
    bypass: bool = False,
    idempotency_key: str | None = None,
    stream: bool = False,
    edition: str = "",
    policy: str = "",
) -> Answer:
    """Claude's answer, or the one kept for the same question. Call it in a scope of the tenant's. Raises NoAnswer.

    Of an ``article`` it is made from that one, and lives until that one is changed; else it is made from all that the
    tenant has, and lives until one of them is changed, added or deleted. Under the same ``idempotency_key`` the same
    question is answered the same again; another one raises IdempotencyConflict, as does the same about articles that
    have changed since. ``edition``: of the catalogue, which it is made from instead. ``policy``: another one than
    usual.
    """
    began = time.perf_counter()
    system: Any = prompt(tenant, [article] if article else Article.objects.filter(tenant=tenant.slug))
    if edition:  # so long a text is worth keeping at the provider: others ask with it too
        system = [{"type": "text", "text": catalogue(edition), "cache_control": {"type": "ephemeral"}}]
    about = {"sources": [article]} if article else {"tags": [ALL_ARTICLES]}
    how = {"refresh": refresh, "bypass": bypass, "idempotency_key": idempotency_key}
    with aicache.scope(policy=policy or "chat", **how, **about) as calls:
        request: Any = {
            "model": settings.HELPCENTRE_MODEL,
            "max_tokens": MOST_TOKENS,
            "system": system,
            "messages": [{"role": "user", "content": question}],
        }
        try:
            if stream:
                return _streamed(request, began)
            message = client().messages.create(**request)
        except (anthropic.AnthropicError, TypeError) as error:  # TypeError: the SDK was given no key
            logger.warning("Claude gave no answer", exc_info=True)
            raise NoAnswer(calls.last, time.perf_counter() - began) from error
    seconds = time.perf_counter() - began
    text = "".join(block.text for block in message.content if block.type == "text")
    info, usage = aicache.info(message), message.usage
    if info.status != "miss":
        return Answer(text, info, seconds)
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    return Answer(text, info, seconds, tokens_read=read, tokens_written=written)


def again(request: dict[str, Any], *, tenant: Any, entry: Any) -> None:
    """``AICACHE["REFRESH"]``: for the admin, in the scope that the question was asked in."""
    client().messages.create(**request)


def _streamed(request: Any, began: float) -> Answer:
    """Word by word, as it comes."""
    first, words = 0.0, []
    with client().messages.stream(**request) as stream:
        for word in stream.text_stream:
            first = first or time.perf_counter() - began
            words.append(word)
    return Answer("".join(words), aicache.info(stream), time.perf_counter() - began, first)


def prompt(tenant: Tenant, articles: Iterable[Article]) -> str:
    return PROMPT.format(
        name=tenant.name,
        language=get_language_info(get_language() or "en")["name"],
        articles="\n\n".join(f"# {article.title}\n\n{article.body}" for article in articles),
    )
