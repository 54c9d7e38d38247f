"""Connections: dying ones, many at once, and none left behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import pytest

from aicache.testing import ClaudeServer, Reply
from aicache.testing.wire import JOIN_SECONDS
from tests.testing.asking import asking, collect, eventually, text_of


def open_connection(claude: ClaudeServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(claude.url.rpartition(":")[2])), timeout=10)


def request_bytes(**more: Any) -> bytes:
    body = json.dumps(asking("x", **more)).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: test\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def threads_of(claude: ClaudeServer) -> int:
    """The one that accepts, and one for each open connection."""
    name = f"claude-{claude.url.rpartition(':')[2]}"
    return sum(thread.name.startswith(name) for thread in threading.enumerate())


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


# Drops


@pytest.mark.parametrize("stream", [False, True])
def test_a_drop_before_the_first_byte_is_a_connection_error(
    claude: ClaudeServer, client: anthropic.Anthropic, stream: bool
) -> None:
    claude.script(Reply.drop())
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.create(**asking("x"), stream=stream)
    assert (claude.count, claude.in_flight) == (1, 0)


def test_a_drop_in_mid_stream_ends_it_with_an_error(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    claude.script(Reply.drop(after_bytes=900))
    seen: list[str] = []
    with pytest.raises(Exception, match="peer closed connection"):
        collect(client.messages.create(**asking("x"), stream=True), seen)
    assert seen[0] == "message_start"
    assert "message_stop" not in seen


def test_a_plain_answer_can_be_dropped_too(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    claude.script(Reply.drop(after_bytes=50))
    with pytest.raises(Exception, match=r"peer closed connection|Connection error"):
        client.messages.create(**asking("x"))


def test_a_drop_sends_exactly_so_many_bytes_of_the_body(claude: ClaudeServer) -> None:
    for size in (0, 1, 7, 100):
        claude.script(Reply.drop(size))
        with open_connection(claude) as connection:
            connection.sendall(request_bytes())
            answer = read_all(connection)
        assert answer == b"" if size == 0 else len(answer.partition(b"\r\n\r\n")[2]) == size


def test_the_sdk_retries_a_dropped_connection(claude: ClaudeServer) -> None:
    claude.script(Reply.drop(), Reply.text("back again"))
    with anthropic.Anthropic(base_url=claude.url, api_key="test", max_retries=1) as client:
        assert text_of(client.messages.create(**asking("x"))) == "back again"


# Clients that leave


LEAVING: dict[str, tuple[bytes, Reply]] = {
    "at once": (b"", Reply.text("x")),
    "in the first line": (request_bytes()[:20], Reply.text("x")),
    "between two headers": (request_bytes().partition(b"content-length")[0], Reply.text("x")),
    "in a header": (request_bytes().partition(b": 1")[0] + b": ", Reply.text("x")),
    "in the body": (request_bytes()[:-5], Reply.text("x")),
    "waiting": (request_bytes(), Reply.text("x", latency=30)),
    "waiting for an error": (request_bytes(), Reply.error(500, latency=30)),
    "streaming": (request_bytes(stream=True), Reply.text("word " * 100, pace=0.1)),
    "in a big answer": (request_bytes(max_tokens=10**8), Reply.text("x" * 20_000_000)),
    "with the answer unread": (request_bytes(), Reply.text("x")),
    "with two requests": (request_bytes() * 2, Reply.text("x", latency=0.05)),
}


@pytest.mark.parametrize("abruptly", [False, True])
@pytest.mark.parametrize("moment", LEAVING)
def test_a_client_that_leaves_is_forgotten_at_once_and_in_silence(
    claude: ClaudeServer, capfd: pytest.CaptureFixture[str], moment: str, abruptly: bool
) -> None:
    sent, reply = LEAVING[moment]
    claude.answer = lambda received: reply
    connection = open_connection(claude)
    connection.sendall(sent)
    assert eventually(lambda: threads_of(claude) == 2)
    time.sleep(0.05)
    if abruptly:  # a reset instead of an orderly end
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.close()
    assert eventually(lambda: threads_of(claude) == 1 and claude.in_flight == 0)
    assert capfd.readouterr() == ("", "")


def test_an_async_caller_that_is_cancelled_is_forgotten(claude: ClaudeServer) -> None:
    claude.latency = 30

    async def ask() -> None:
        async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="test", max_retries=0) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.messages.create(**asking("x")), 0.2)

    asyncio.run(ask())
    assert eventually(lambda: claude.in_flight == 0 and threads_of(claude) == 1)


def test_a_reader_that_breaks_off_a_stream_is_forgotten(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    claude.answer = lambda received: Reply.text("word " * 100, pace=0.05)
    with client.messages.create(**asking("x"), stream=True) as stream:
        for _ in stream:
            break
    assert eventually(lambda: claude.in_flight == 0)


def test_a_client_that_leaves_in_its_head_made_no_call(claude: ClaudeServer) -> None:
    with open_connection(claude) as connection:
        connection.sendall(request_bytes().partition(b"content-length")[0])
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)
    assert claude.count == 0


# Many, and none


def test_one_connection_carries_many_requests(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    for _ in range(5):
        client.messages.create(**asking("x"))
        list(client.messages.create(**asking("x"), stream=True))
        with pytest.raises(anthropic.NotFoundError):
            client.models.list()
    assert threads_of(claude) == 2


def test_requests_that_come_early_are_answered_in_turn(claude: ClaudeServer) -> None:
    claude.latency = 0.1
    with open_connection(claude) as connection:
        connection.sendall(request_bytes() * 3)
        answer = b""
        while answer.count(b"message") < 3 or not answer.endswith(b"}"):
            answer += connection.recv(65536)
    assert [answer.index(b"Answer %d" % number) for number in (1, 2, 3)] == sorted(
        answer.index(b"Answer %d" % number) for number in (1, 2, 3)
    )


def test_two_hundred_callers_are_answered_at_once(claude: ClaudeServer) -> None:
    all_here = threading.Barrier(200)
    numbers = itertools.count()
    claude.answer = lambda _: (all_here.wait(60), Reply.text(f"Answer {next(numbers)}"))[1]

    async def ask() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="test", max_retries=0) as client:
            messages = await asyncio.gather(*(client.messages.create(**asking("x")) for _ in range(200)))
            return [text_of(message) for message in messages]

    assert len(set(asyncio.run(ask()))) == 200
    assert claude.peak == 200


def test_a_plain_answer_takes_well_under_two_milliseconds(claude: ClaudeServer) -> None:
    request, seconds = request_bytes(), []
    with open_connection(claude) as connection:
        for _ in range(100):
            start = time.perf_counter()
            connection.sendall(request)
            connection.recv(65536)
            seconds.append(time.perf_counter() - start)
    assert sorted(seconds)[50] < 0.002


def test_stop_ends_every_thread_and_socket() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    gc.collect()
    before = descriptors()
    claude = ClaudeServer(latency=60).start()
    idle, waiting = open_connection(claude), open_connection(claude)
    waiting.sendall(request_bytes())
    assert eventually(lambda: claude.in_flight == 1)
    start = time.monotonic()
    claude.stop()
    assert time.monotonic() - start < JOIN_SECONDS / 2  # it waits for nobody
    assert (claude.in_flight, threads_of(claude)) == (0, 0)
    assert (idle.recv(1), waiting.recv(1)) == (b"", b"")
    idle.close()
    waiting.close()
    assert descriptors() <= before
    claude.stop()  # once more is no error


def test_a_stopped_server_comes_back_at_the_same_address() -> None:
    claude = ClaudeServer()
    with pytest.raises(RuntimeError, match="start"):
        claude.url  # noqa: B018 - reading it is what fails
    with claude:
        url = claude.url
        client = anthropic.Anthropic(base_url=url, api_key="test", max_retries=0)
        client.messages.create(**asking("x"))
    with client:
        with pytest.raises(anthropic.APIConnectionError):
            client.messages.create(**asking("x"))
        with claude:
            assert claude.url == url
            assert text_of(client.messages.create(**asking("x"))) == "Answer 2 to: x"


def test_two_servers_do_not_know_of_each_other() -> None:
    with ClaudeServer() as one, ClaudeServer() as other, ThreadPoolExecutor(2) as pool:
        clients = [anthropic.Anthropic(base_url=server.url, api_key="test") for server in (one, other)]
        texts = [text_of(message) for message in pool.map(lambda c: c.messages.create(**asking("x")), clients)]
        for client in clients:
            client.close()
    assert texts == ["Answer 1 to: x"] * 2
    assert (one.count, other.count) == (1, 1)
