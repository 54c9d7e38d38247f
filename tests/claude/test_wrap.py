from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest

import aicache
from aicache.errors import WrongKind
from aicache.testing import ClaudeServer
from tests.claude.conftest import QUESTION, Asker

pytestmark = pytest.mark.usefixtures("aicache_isolated")


@pytest.fixture
def client(claude: ClaudeServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=claude.url, api_key="key", max_retries=0) as plain:
        yield aicache.wrap(plain)


def statuses(*clients: Any) -> list[str]:
    with aicache.scope(tenant="acme") as calls:
        for client in clients:
            client.messages.create(**QUESTION)
    return [call.status for call in calls]


@pytest.mark.parametrize("kind", [anthropic.Anthropic, anthropic.AsyncAnthropic])
def test_the_wrapped_client_is_of_the_same_kind_and_keeps_its_options(kind: type) -> None:
    plain = kind(api_key="key", base_url="http://127.0.0.1:9", timeout=7, max_retries=5, default_headers={"x-a": "b"})
    wrapped = aicache.wrap(plain)

    assert type(wrapped) is kind
    assert (wrapped.api_key, wrapped.timeout, wrapped.max_retries) == ("key", 7, 5)
    assert wrapped.base_url == plain.base_url
    assert wrapped.default_headers["x-a"] == "b"
    assert plain.middleware == ()


@pytest.mark.parametrize(
    "kind", [anthropic.AnthropicBedrock, anthropic.AnthropicVertex, anthropic.AsyncAnthropicVertex]
)
def test_clients_of_other_platforms_are_wrapped_too(kind: Any) -> None:
    options = {"project_id": "p", "region": "r", "access_token": "t"} if "Vertex" in kind.__name__ else {}
    if not options:
        options = {"aws_access_key": "k", "aws_secret_key": "s", "aws_region": "us-east-1"}
    wrapped = aicache.wrap(kind(**options))

    assert type(wrapped) is kind
    assert len(wrapped.copy().middleware) == 1


def test_wrapping_twice_is_wrapping_once(client: anthropic.Anthropic) -> None:
    assert aicache.wrap(client) is client


@pytest.mark.parametrize("thing", [None, "client", object(), anthropic.Anthropic, anthropic])
def test_what_is_no_client_is_refused_by_name(thing: Any) -> None:
    with pytest.raises(WrongKind, match=r"wrap\(\) was given .*accepted: "):
        aicache.wrap(thing)


def test_copies_are_wrapped_and_share_with_their_origin_what_is_the_same(client: anthropic.Anthropic) -> None:
    assert statuses(
        client, client.copy(), client.with_options(timeout=5), client.with_options(max_retries=1).copy()
    ) == [
        "miss",
        "hit",
        "hit",
        "hit",
    ]


def test_a_copy_with_another_base_url_never_shares_with_its_origin(client: anthropic.Anthropic) -> None:
    with ClaudeServer() as other:
        elsewhere = client.with_options(base_url=other.url)
        assert statuses(client, elsewhere, elsewhere, client) == ["miss", "miss", "hit", "hit"]
        assert other.count == 1


@pytest.mark.parametrize(
    "change",
    [
        {"default_headers": {"anthropic-beta": "context-1m"}},
        {"default_headers": {"anthropic-future": "x"}},
        {"default_headers": {"x-gateway-route": "eu"}},
        {"default_headers": {"Host": "eu.gateway.example"}},
        {"default_headers": {"anthropic-version": "2023-06-01"}},
        {"default_query": {"route": "eu"}},
    ],
)
def test_a_copy_that_sends_something_else_never_shares_with_its_origin(
    client: anthropic.Anthropic, change: dict[str, Any]
) -> None:
    changed = client.with_options(**change)
    assert statuses(client, changed, changed, client) == ["miss", "miss", "hit", "hit"]


@pytest.mark.parametrize(
    "adds", [{"headers": {"anthropic-beta": "one"}}, {"headers": {"x-region": "eu"}}, {"params": {"deployment": "eu"}}]
)
def test_what_a_clients_own_http_client_adds_counts(asker: Asker, adds: dict[str, Any]) -> None:
    kind = httpx2.Client if asker.colour == "sync" else httpx2.AsyncClient
    with aicache.scope(tenant="acme") as calls:
        for added in ({}, adds, adds, {}):
            asker.create(client={"http_client": kind(**added)})

    assert [call.status for call in calls] == ["miss", "miss", "hit", "hit"]


@pytest.mark.parametrize("elsewhere", [{"project_id": "other"}, {"region": "europe-west1"}])
def test_where_a_client_of_another_platform_asks_counts(elsewhere: dict[str, str]) -> None:
    answer = {"type": "message", "role": "assistant", "content": [], "stop_reason": "end_turn", "model": "m"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=answer))
    place = {"project_id": "one", "region": "us-east5"}
    with httpx2.Client(transport=transport) as connections:
        first, second = (
            aicache.wrap(
                anthropic.AnthropicVertex(**asked, base_url="http://x", access_token="t", http_client=connections)
            )
            for asked in (place, {**place, **elsewhere})
        )
        assert statuses(first, second, second, first, first.copy(**elsewhere)) == ["miss", "miss", "hit", "hit", "hit"]


def test_a_base_url_assigned_later_counts(client: anthropic.Anthropic) -> None:
    with ClaudeServer() as other:
        changed = client.copy()
        changed.base_url = other.url
        assert statuses(client, changed) == ["miss", "miss"]


def test_a_header_of_one_call_counts(client: anthropic.Anthropic, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme") as calls:
        for headers in (
            {},
            {"anthropic-beta": "a"},
            {"anthropic-beta": "a"},
            {"x-trace-ish": "1"},
            {"traceparent": "1"},
        ):
            client.messages.create(**QUESTION, extra_headers=headers)

    assert [call.status for call in calls] == ["miss", "miss", "hit", "miss", "hit"]


def test_an_unknown_field_of_the_body_counts(client: anthropic.Anthropic) -> None:
    with aicache.scope(tenant="acme") as calls:
        for extra in ({}, {"temperature": 0.5}, {"temperature": 0.5}, {"future": [1]}):
            client.messages.create(**QUESTION, extra_body=extra)

    assert [call.status for call in calls] == ["miss", "miss", "hit", "miss"]


class Lengthening(anthropic.Middleware):
    """Changes what is asked, as a site's own middleware may."""

    def handle(self, request: Any, call_next: Any) -> Any:
        return call_next(request.copy(body={**request.json, "system": "Be brief."}))


def test_what_other_middleware_changes_is_in_the_key(client: anthropic.Anthropic, claude: ClaudeServer) -> None:
    brief = client.with_middleware(Lengthening())
    replaced = client.with_options(middleware=[Lengthening()])

    assert statuses(client, brief, replaced) == ["miss", "miss", "hit"]
    assert [call.body.get("system") for call in claude.calls] == [None, "Be brief."]


def test_a_wrapped_client_is_let_go_with_its_copies(claude: ClaudeServer) -> None:
    def make() -> weakref.ref[Any]:
        return weakref.ref(aicache.wrap(anthropic.Anthropic(base_url=claude.url, api_key="k")).with_options(timeout=1))

    gone = make()
    gc.collect()
    assert gone() is None


def test_what_the_cache_says_of_a_message_is_not_in_the_message(client: anthropic.Anthropic) -> None:
    with aicache.scope(tenant="acme"):
        client.messages.create(**QUESTION)
        hit = client.messages.create(**QUESTION)

    assert "aicache" not in hit.to_json()
    assert "aicache" not in repr(hit)
    assert aicache.info(copy.deepcopy(hit)) == aicache.info(pickle.loads(pickle.dumps(hit))) == aicache.info(hit)


def test_a_hit_is_the_callers_own_object(client: anthropic.Anthropic) -> None:
    with aicache.scope(tenant="acme"):
        client.messages.create(**QUESTION)
        first, second = (client.messages.create(**QUESTION) for _ in range(2))
    first.content.clear()

    assert second.content
