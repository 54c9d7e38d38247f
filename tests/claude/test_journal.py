"""One line for each call, with nothing in it of what was asked or answered."""

from __future__ import annotations

import json
import logging
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import pytest
from django.test import override_settings

import aicache
from aicache import journal
from aicache.core.callinfo import CallInfo
from aicache.testing import ClaudeServer, Reply
from tests.claude.conftest import QUESTION, Asker
from tests.claude.together import renewing, until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

MARK = "a-secret-of-the-customers"
SECRETIVE: dict[str, Any] = {
    "messages": [{"role": "user", "content": MARK}],
    "system": [{"type": "text", "text": MARK}],
    "tools": [{"name": "refund", "description": MARK, "input_schema": {"type": "object"}}],
    "metadata": {"user_id": MARK},
    "stop_sequences": [MARK],
}


@contextmanager
def logged(name: str, level: int) -> Iterator[list[logging.LogRecord]]:
    """What is, as it comes."""
    found: list[logging.LogRecord] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    logger, handler = logging.getLogger(name), Collecting()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield found
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


@pytest.fixture
def lines() -> Iterator[list[logging.LogRecord]]:
    with logged("aicache.calls", logging.INFO) as found:
        yield found


FIELDS = (
    *("status", "reason", "key", "tenant", "model", "policy", "age", "expires_in", "waited", "saved_usd"),
    *("saved_tokens", "stored", "prompt_cache", "tags"),
)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in FIELDS}


def test_each_call_is_a_line_for_people_and_machines(asker: Asker, lines: list[logging.LogRecord]) -> None:
    with aicache.scope(tenant="acme", policy="chat", tags=["faq", "all"]) as calls:
        asker.create()
        asker.create()
    missed, hit = calls

    assert hit.saved_usd
    key = hit.key[:12]
    about = f"key={key} tenant=acme model=claude-sonnet-5 policy=chat waited=0.000"
    assert [line.getMessage() for line in lines] == [
        f"miss reason=new {about} saved_usd=0.000000",
        f"hit {about} saved_usd={hit.saved_usd:.6f}",
    ]
    assert {(line.name, line.levelname) for line in lines} == {("aicache.calls", "INFO")}
    assert fields(lines[1]) == {
        "status": "hit",
        "reason": "",
        "key": hit.key,
        "tenant": "acme",
        "model": "claude-sonnet-5",
        "policy": "chat",
        "age": hit.age,
        "expires_in": hit.expires_in,
        "waited": 0.0,
        "saved_usd": float(hit.saved_usd),
        "saved_tokens": hit.saved_tokens,
        "stored": True,
        "prompt_cache": "off",
        "tags": ["all", "faq"],
    }
    assert json.loads(json.dumps(fields(lines[0])))["reason"] == missed.reason


def test_a_remembered_value_is_a_line_too(aicache_isolated: None, lines: list[logging.LogRecord]) -> None:
    with aicache.scope(tenant=aicache.GLOBAL):
        for _ in range(2):
            aicache.remember({"model": "some-embedder", "embed": MARK}, lambda: [MARK])

    assert [fields(line)["status"] for line in lines] == ["miss", "hit"]
    assert "tenant=(everybody) model=some-embedder policy=default" in lines[1].getMessage()
    assert lines[1].getMessage().endswith("saved_usd=")
    assert MARK not in repr([vars(line) for line in lines])


def test_a_call_that_is_tried_again_is_one_line(
    asker: Asker, claude: ClaudeServer, lines: list[logging.LogRecord]
) -> None:
    claude.script(Reply.error(529, retry_after=0.01))
    with aicache.scope(tenant="acme"):
        asker.create(client={"max_retries": 1})

    assert [fields(line)["status"] for line in lines] == ["miss"]


def test_nothing_is_written_or_made_where_nobody_reads_it(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicache.journal.write", None)
    monkeypatch.setattr("aicache.outcome._telling", None)
    journal.logger.setLevel(logging.WARNING)
    try:
        with aicache.scope(tenant="acme"):
            asker.create()
            asker.create()
    finally:
        journal.logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("odd", ["two words", "a line\nanother", 'a "quote"', "=", "x" * 1000])
def test_what_others_have_named_stays_one_word_on_one_line(odd: str, lines: list[logging.LogRecord]) -> None:
    journal.write(info=CallInfo("miss", f"invalidated:{odd}"), tenant=odd, model=odd, policy="default")
    message = lines[0].getMessage()

    assert "\n" not in message
    words = json.dumps(odd[:120])
    assert f"tenant={words} model={words} policy=default " in message
    assert fields(lines[0])["tenant"] == odd


def test_the_words_of_a_tag_are_no_words_of_the_line(lines: list[logging.LogRecord]) -> None:
    journal.write(info=CallInfo("miss", "source_changed:shop.article:42"), tenant="", model="", policy="default")

    assert lines[0].getMessage().startswith('miss reason=source_changed:shop.article:42 key= tenant="(the site)" ')


class TestNothingOfWhatWasSaidIsLogged:
    """At any level, by any logger of the app's, in any field, with tracebacks."""

    @pytest.fixture(autouse=True)
    def _at_any_level(self, asker: Asker) -> Iterator[None]:
        with logged("aicache", logging.DEBUG) as found, aicache.scope(tenant="acme"):
            yield
        assert any(record.name == "aicache.calls" for record in found)
        for record in found:
            said = [record.getMessage(), repr(vars(record))]
            if record.exc_info and record.exc_info[1]:
                said += traceback.format_exception(record.exc_info[1])
            assert MARK not in "\n".join(said), record

    def test_of_a_plain_call(self, asker: Asker, claude: ClaudeServer) -> None:
        claude.answer = lambda _: Reply.text(f"about {MARK}")
        for _ in range(2):
            asker.create(**SECRETIVE)

    def test_of_a_stream(self, asker: Asker, claude: ClaudeServer) -> None:
        claude.answer = lambda _: Reply.text(f"about {MARK}")
        for _ in range(2):
            stream(asker)

    def test_of_a_stream_that_breaks_off(self, asker: Asker, claude: ClaudeServer) -> None:
        claude.script(Reply.text(f"about {MARK} " * 20, drop_after=1500))
        with pytest.raises(Exception, match=r"closed|incomplete"):
            stream(asker)

    def test_of_a_stream_that_fails_in_the_middle(self, asker: Asker, claude: ClaudeServer) -> None:
        claude.script(Reply.text(f"about {MARK} " * 20, error_after=4))
        with pytest.raises(anthropic.APIStatusError):
            stream(asker)

    @pytest.mark.parametrize("status", [400, 529])
    def test_of_a_failing_call(self, asker: Asker, claude: ClaudeServer, status: int) -> None:
        claude.answer = lambda _: Reply.error(status, message=f"no {MARK}", retry_after=0.01)
        with pytest.raises(anthropic.APIStatusError):
            asker.create(**SECRETIVE, client={"max_retries": 1})

    def test_of_a_call_that_another_middleware_fails(self, asker: Asker) -> None:
        class Failing(anthropic.Middleware):
            def handle(self, request: Any, call_next: Any) -> Any:
                raise LookupError(MARK)

            async def handle_async(self, request: Any, call_next: Any) -> Any:
                raise LookupError(MARK)

        def ask(client: Any) -> Any:
            client._middleware = (*client._middleware, Failing())
            client._middleware_chain = client._build_middleware_chain()
            return client.messages.create(**{**QUESTION, **SECRETIVE})

        with pytest.raises(LookupError):
            asker.run(ask)

    def test_of_a_renewal_that_fails(self, asker: Asker, claude: ClaudeServer) -> None:
        policies = {"stale": {"ttl": 0.05, "stale_while_revalidate": 60}}
        with override_settings(AICACHE={"POLICIES": policies, "NAMESPACE": uuid.uuid4().hex}):
            with aicache.scope(tenant="acme", policy="stale"), Asker("sync", claude.url).client() as client:
                client.messages.create(**{**QUESTION, **SECRETIVE})
                time.sleep(0.06)
                claude.script(Reply.error(400, message=MARK))
                client.messages.create(**{**QUESTION, **SECRETIVE})
                until(lambda: claude.count == 2 and not renewing(), "it is not renewed")

    def test_of_an_answer_that_is_no_message(self, asker: Asker, claude: ClaudeServer) -> None:
        claude.script(Reply.raw(200, {"content-type": "application/json"}, f'["{MARK}"'.encode()))
        with pytest.raises(Exception, match=r".*"):
            asker.create(**SECRETIVE)


def stream(asker: Asker) -> None:
    asked = {**QUESTION, **SECRETIVE, "stream": True}

    async def aask(client: Any) -> None:
        async for _ in await client.messages.create(**asked):
            pass

    asker.run(aask if asker.colour == "async" else lambda client: list(client.messages.create(**asked)))
