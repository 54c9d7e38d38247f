"""Errors: the scripted ones, and those that a wrong request earns."""

from __future__ import annotations

import http.client
import json
from typing import Any

import anthropic
import pytest

from aicache.testing import ClaudeServer, Received, Reply
from tests.testing.asking import asking, text_of


def post(claude: ClaudeServer, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    """A request that the SDK would not make."""
    connection = http.client.HTTPConnection("127.0.0.1", int(claude.url.rpartition(":")[2]), timeout=10)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, json.load(response)
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (401, "authentication_error", anthropic.AuthenticationError),
        (403, "permission_error", anthropic.PermissionDeniedError),
        (404, "not_found_error", anthropic.NotFoundError),
        (413, "request_too_large", anthropic.APIStatusError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (500, "api_error", anthropic.InternalServerError),
        (529, "overloaded_error", anthropic.APIStatusError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_scripted_error_is_the_sdks_error(
    claude: ClaudeServer,
    client: anthropic.Anthropic,
    status: int,
    kind: str,
    error: type[anthropic.APIStatusError],
    stream: bool,
) -> None:
    claude.script(Reply.error(status))
    with pytest.raises(error) as caught:
        client.messages.create(**asking("x"), stream=stream)
    assert caught.value.status_code == status
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == kind
    assert caught.value.body["request_id"] == caught.value.request_id


def test_the_sdk_retries_after_the_time_that_an_error_names(claude: ClaudeServer) -> None:
    longer = 0.6  # than the half second that the SDK waits at most before its first retry
    for error in (Reply.error(529, retry_after=longer), Reply.error(500, headers={"Retry-After": str(longer)})):
        claude.reset()
        claude.script(error, Reply.text("hi"))
        with anthropic.Anthropic(base_url=claude.url, api_key="test", max_retries=1) as client:
            assert text_of(client.messages.create(**asking("x"))) == "hi"
        first, second = (received.at for received in claude.calls)
        assert second - first >= longer


def test_a_raw_reply_is_sent_as_it_stands(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    claude.script(Reply.raw(418, {"X-Pot": "tea"}, b"short and stout"))
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(**asking("x"))
    assert (caught.value.response.content, caught.value.response.headers["x-pot"]) == (b"short and stout", "tea")


@pytest.mark.parametrize("missing", ["model", "messages", "max_tokens"])
def test_a_missing_field_is_an_invalid_request_that_names_it(
    claude: ClaudeServer, client: anthropic.Anthropic, missing: str
) -> None:
    claude.script(Reply.text("for somebody else"))
    body = {name: value for name, value in asking("x").items() if name != missing}
    with pytest.raises(anthropic.BadRequestError, match=f"{missing}: Field required"):
        client.post("/v1/messages", body=body, cast_to=object)
    assert text_of(client.messages.create(**asking("x"))) == "for somebody else"
    assert claude.count == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"messages": ["x"]},
        {"messages": [{"role": "user", "content": 1}]},
        {"max_tokens": -1},
        {"max_tokens": "7"},
        {"system": 7},
        {"tools": "none"},
    ],
)
def test_a_field_of_the_wrong_shape_is_an_invalid_request(client: anthropic.Anthropic, wrong: dict[str, Any]) -> None:
    with pytest.raises(anthropic.BadRequestError):
        client.post("/v1/messages", body=asking("x") | wrong, cast_to=object)


def test_a_body_that_is_no_json_object_is_an_invalid_request(claude: ClaudeServer) -> None:
    for body in (b"{", b"[]", b"", b"\xff"):
        status, answer = post(claude, "/v1/messages", body, {"x-api-key": "test"})
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert [received.body for received in claude.calls] == [{}] * 4


def test_a_request_without_credentials_is_refused(claude: ClaudeServer) -> None:
    body = json.dumps(asking("x")).encode()
    assert post(claude, "/v1/messages", body, {})[0] == 401
    assert post(claude, "/v1/messages", body, {"Authorization": "Bearer token"})[0] == 200


def test_an_unknown_path_is_not_found_and_no_call(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.models.list()
    assert claude.count == 0


def test_an_answer_function_that_fails_is_told_to_the_caller_at_once(
    claude: ClaudeServer, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(received: Received) -> Reply:
        raise LookupError("no such fixture")

    claude.answer = broken
    with (
        anthropic.Anthropic(base_url=claude.url, api_key="test", max_retries=5) as client,
        pytest.raises(anthropic.InternalServerError, match="no such fixture"),
    ):
        client.messages.create(**asking("x"))
    assert (claude.count, claude.in_flight) == (1, 0)
    assert "no such fixture" in caplog.text
