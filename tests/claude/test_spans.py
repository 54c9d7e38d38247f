"""The span that the SDK makes of a call says what the cache did, as it has a hit's original usage."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

import aicache
from aicache.core.callinfo import CallInfo
from aicache.testing import ClaudeServer, Reply
from tests.claude.conftest import QUESTION, Asker
from tests.claude.spans import Spans
from tests.claude.streaming import Caller, gated
from tests.claude.together import until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture
def spans() -> Spans:
    return Spans()


def ask(asker: Asker, spans: Spans, *, retries: int = 0, **changes: Any) -> CallInfo:
    options = {"open_telemetry": {"tracer_provider": spans}, "max_retries": retries}
    with aicache.scope() as calls:
        asker.create(client=options, **changes)
    assert calls.last is not None
    return calls.last


def test_a_miss_and_a_hit_say_so(asker: Asker, spans: Spans) -> None:
    with aicache.scope(tenant="acme", policy="chat"):
        missed = ask(asker, spans)
        assert spans.last == {
            "status": "miss",
            "reason": "new",
            "key": missed.key[:12],
            "tenant": "acme",
            "policy": "chat",
            "age": 0.0,
            "waited": 0.0,
            "saved_usd": 0.0,
            "stored": True,
            "prompt_cache": "off",
        }
        hit = ask(asker, spans)

    assert hit.saved_usd
    assert spans.last == {
        "status": "hit",
        "reason": "",
        "key": missed.key[:12],
        "tenant": "acme",
        "policy": "chat",
        "age": hit.age,
        "waited": 0.0,
        "saved_usd": float(hit.saved_usd),
        "stored": True,
        "prompt_cache": "off",
    }


def test_of_a_model_without_a_price_no_dollars_are_told(asker: Asker, claude: ClaudeServer, spans: Spans) -> None:
    with aicache.scope(tenant="acme"):
        for _ in range(2):
            told = ask(asker, spans, model="some-model-of-2099")

    assert told.saved_usd is None
    assert "saved_usd" not in spans.last


@pytest.mark.parametrize(
    ("scope", "tenant"),
    [({}, "(nobody)"), ({"tenant": aicache.GLOBAL}, "(everybody)"), ({"tenant": "acme", "bypass": True}, "acme")],
)
def test_whose_it_is_is_told_of_each(asker: Asker, spans: Spans, scope: dict[str, Any], tenant: str) -> None:
    with aicache.scope(**scope):
        ask(asker, spans)

    assert spans.last["tenant"] == tenant


def test_of_several_attempts_the_last_one_is_told(asker: Asker, claude: ClaudeServer, spans: Spans) -> None:
    claude.script(Reply.error(529, retry_after=0.01))
    with aicache.scope(tenant="acme"):
        ask(asker, spans, retries=1)

    assert len(spans.made) == 1
    assert spans.last["status"] == "miss"


def test_a_failure_is_told(asker: Asker, claude: ClaudeServer, spans: Spans) -> None:
    claude.script(Reply.error(400))
    with aicache.scope(tenant="acme"), pytest.raises(anthropic.BadRequestError):
        ask(asker, spans)

    assert spans.last["status"] == "error"


def test_a_stream_says_what_is_known_as_it_begins_and_at_its_end_the_rest(
    asker: Asker, claude: ClaudeServer, spans: Spans
) -> None:
    client = asker.client

    def traced(**options: Any) -> Any:
        return client(**options, open_telemetry={"tracer_provider": spans})

    asker.client = traced  # type: ignore[method-assign]
    with aicache.scope(tenant="acme"), gated(claude) as gate:
        caller = Caller(asker)
        gate.open_to(3)
        caller.asks_for(2)
        until(lambda: len(caller.events) == 2, "nothing comes")
        assert spans.last["status"] == "miss"
        assert not spans.last["stored"]
        gate.open()
        caller.rest()

    assert spans.made[-1].has_ended
    assert spans.last["stored"]
    assert spans.last["key"] == caller.info.key[:12]


def test_without_spans_of_its_own_the_call_is_told_on_the_one_around_it(
    claude: ClaudeServer, aicache_isolated: None, spans: Spans
) -> None:
    with anthropic.Anthropic(base_url=claude.url, api_key="k", open_telemetry=False) as plain:
        with aicache.scope(tenant="acme"), spans.start_as_current_span("request"):
            aicache.wrap(plain).messages.create(**QUESTION)

    assert [span.name for span in spans.made] == ["request"]
    assert spans.last["status"] == "miss"


def test_a_value_that_is_remembered_marks_no_span_of_its_callers(aicache_isolated: None, spans: Spans) -> None:
    with aicache.scope(tenant="acme"), spans.start_as_current_span("request"):
        aicache.remember({"embed": "refund"}, lambda: [0.5])

    assert spans.last == {}


def test_a_span_that_is_not_recorded_costs_nothing(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicache.outcome.mark", None)
    spans = Spans(are_sampled=False)
    with aicache.scope(tenant="acme"):
        ask(asker, spans)
        ask(asker, spans)

    assert sum(span.settings for span in spans.made) == 0


def test_nothing_of_what_was_said_is_on_it(asker: Asker, claude: ClaudeServer, spans: Spans) -> None:
    mark = "a-secret-of-the-customers"
    claude.answer = lambda _: Reply.text(f"about {mark}")
    with aicache.scope(tenant="acme"):
        for _ in range(2):
            ask(asker, spans, messages=[{"role": "user", "content": mark}], system=mark)

    assert len(spans.made) == 2
    assert mark not in repr([span.attributes for span in spans.made])
