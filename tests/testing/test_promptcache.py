"""The provider's prompt cache: who reads, who writes, and what usage says about it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import pytest

from aicache.testing import ClaudeServer, Reply
from aicache.testing.promptcache import PromptCache
from tests.testing.asking import asking

FIVE_MINUTES = {"type": "ephemeral"}
ONE_HOUR = {"type": "ephemeral", "ttl": "1h"}


def block(text: str, mark: dict[str, str] | None = None) -> dict[str, Any]:
    return {"type": "text", "text": text} | ({"cache_control": mark} if mark else {})


def tokens(number: int, mark: dict[str, str] | None = None, letter: str = "a") -> dict[str, Any]:
    """A text block of that many tokens."""
    return block(letter * 4 * number, mark)


class Provider:
    """A prompt cache with a clock of its own and no minimum, asked without HTTP."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cache = PromptCache()
        self.cache.minimum, self.cache.clock = 0, lambda: self.now

    def ask(self, *blocks: dict[str, Any], key: str = "test", **more: Any) -> tuple[int, int, int]:
        """Tokens read, written and neither, by a request that is answered at once."""
        body = asking("", messages=[{"role": "user", "content": list(blocks)}], **more)
        visit = self.cache.visit(body, {"x-api-key": key})
        visit.begun()
        usage = visit.usage
        return usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"], usage["input_tokens"]


@pytest.fixture
def provider() -> Provider:
    return Provider()


def test_the_first_request_writes_and_the_next_reads(provider: Provider) -> None:
    assert provider.ask(tokens(10, FIVE_MINUTES), tokens(3)) == (0, 10, 3)
    assert provider.ask(tokens(10, FIVE_MINUTES), tokens(4)) == (10, 0, 4)


def test_without_a_breakpoint_nothing_is_read_or_written(provider: Provider) -> None:
    provider.ask(tokens(10, FIVE_MINUTES))
    assert provider.ask(tokens(10)) == (0, 0, 10)


def test_tools_system_and_messages_follow_each_other_in_this_order(provider: Provider) -> None:
    tool = {"name": "t" * 40, "input_schema": {"type": "object"}}
    parts: dict[str, Any] = {"tools": [tool | {"cache_control": FIVE_MINUTES}], "system": [tokens(5, FIVE_MINUTES)]}
    _, written, _ = provider.ask(tokens(2), **parts)
    tool_tokens = written - 5
    assert tool_tokens > 10
    assert provider.ask(tokens(9), **parts) == (written, 0, 9)
    other_system = {**parts, "system": [tokens(6, FIVE_MINUTES, "b")]}
    assert provider.ask(tokens(2), **other_system) == (tool_tokens, 6, 2)
    other_tools = {**parts, "tools": [tool | {"description": "d", "cache_control": FIVE_MINUTES}]}
    assert provider.ask(tokens(2), **other_tools)[0] == 0


def test_the_top_level_marker_marks_the_last_block(provider: Provider) -> None:
    assert provider.ask(tokens(10), tokens(3), cache_control=FIVE_MINUTES) == (0, 13, 0)
    assert provider.ask(tokens(10), tokens(3), tokens(2), cache_control=FIVE_MINUTES) == (13, 2, 0)


def test_a_growing_conversation_reads_what_it_wrote_and_writes_the_rest(provider: Provider) -> None:
    turns: list[dict[str, Any]] = []
    read = []
    for number in range(4):
        turns.append({"role": "user", "content": f"{number:040}"})
        body = asking("", messages=turns, cache_control=FIVE_MINUTES)
        visit = provider.cache.visit(body, {"x-api-key": "test"})
        visit.begun()
        read.append((visit.read, visit.written["5m"]))
        turns.append({"role": "assistant", "content": "okay"})
    assert read == [(0, 10), (10, 11), (21, 11), (32, 11)]


def test_moving_a_marker_does_not_change_the_prefix(provider: Provider) -> None:
    provider.ask(tokens(10, FIVE_MINUTES), tokens(3, FIVE_MINUTES))
    assert provider.ask(tokens(10), tokens(3, FIVE_MINUTES)) == (13, 0, 0)


@pytest.mark.parametrize("between", [20, 21])
def test_a_written_prefix_is_found_up_to_twenty_blocks_before_a_breakpoint(provider: Provider, between: int) -> None:
    provider.ask(tokens(10, FIVE_MINUTES))
    added = [tokens(1, letter="b")] * (between - 1)
    read, written, _ = provider.ask(tokens(10), *added, tokens(1, FIVE_MINUTES, "c"))
    assert (read, written) == ((10, 20) if between == 20 else (0, 31))


def test_what_nobody_marked_was_never_written(provider: Provider) -> None:
    provider.ask(tokens(10), tokens(3, FIVE_MINUTES))
    assert provider.ask(tokens(10, FIVE_MINUTES), tokens(3, letter="b")) == (0, 10, 3)


@pytest.mark.parametrize(
    "other",
    [
        {"key": "another"},
        {"model": "claude-opus-5"},
        {"tool_choice": {"type": "any"}},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"speed": "fast"},
    ],
)
def test_another_identity_does_not_read(provider: Provider, other: dict[str, Any]) -> None:
    provider.ask(tokens(10, FIVE_MINUTES))
    assert provider.ask(tokens(10, FIVE_MINUTES), **other) == (0, 10, 0)


def test_what_does_not_change_the_prompt_does_not_change_the_identity(provider: Provider) -> None:
    provider.ask(tokens(10, FIVE_MINUTES))
    assert provider.ask(tokens(10, FIVE_MINUTES), max_tokens=7, stream=True, metadata={"user_id": "u"}) == (10, 0, 0)


@pytest.mark.parametrize(("mark", "life"), [(FIVE_MINUTES, 300), (ONE_HOUR, 3600)])
def test_a_prefix_lives_from_its_last_use(provider: Provider, mark: dict[str, str], life: float) -> None:
    for _ in range(3):
        provider.ask(tokens(10, mark))
        provider.now += life - 1
    assert provider.ask(tokens(10, mark)) == (10, 0, 0)
    provider.now += life
    assert provider.ask(tokens(10, mark)) == (0, 10, 0)


def test_advance_lets_only_the_cache_grow_older(provider: Provider) -> None:
    provider.ask(tokens(10, FIVE_MINUTES))
    provider.cache.advance(299)
    assert provider.ask(tokens(10, FIVE_MINUTES)) == (10, 0, 0)
    provider.cache.advance(300)
    assert provider.ask(tokens(10, FIVE_MINUTES)) == (0, 10, 0)


def test_each_part_is_written_at_the_life_of_the_breakpoint_that_closes_it(provider: Provider) -> None:
    body = asking("", messages=[{"role": "user", "content": [tokens(3, FIVE_MINUTES)]}], system=[tokens(10, ONE_HOUR)])
    visit = provider.cache.visit(body, {})
    visit.begun()
    assert visit.usage["cache_creation"] == {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 10}
    provider.now += 301
    assert provider.cache.visit(body, {}).usage["cache_creation"]["ephemeral_5m_input_tokens"] == 3
    assert provider.cache.visit(body, {}).read == 10


def test_prefixes_below_the_minimum_are_not_kept(provider: Provider) -> None:
    provider.cache.minimum = 10
    assert provider.ask(tokens(9, FIVE_MINUTES)) == (0, 0, 9)
    assert provider.ask(tokens(9, FIVE_MINUTES), tokens(1, FIVE_MINUTES)) == (0, 10, 0)
    assert provider.ask(tokens(9, FIVE_MINUTES), tokens(1, FIVE_MINUTES)) == (10, 0, 0)


def test_what_is_being_written_cannot_be_read_so_both_pay(provider: Provider) -> None:
    body = asking("", messages=[{"role": "user", "content": [tokens(10, FIVE_MINUTES)]}])
    first, second = provider.cache.visit(body, {}), provider.cache.visit(body, {})
    first.begun()
    third = provider.cache.visit(body, {})
    assert [visit.written["5m"] for visit in (first, second, third)] == [10, 10, 0]
    assert third.read == 10


def test_a_write_is_readable_only_after_the_lag(provider: Provider) -> None:
    lags = iter([2.0, 50.0])
    provider.cache.lag = lambda: next(lags)
    assert provider.ask(tokens(10, FIVE_MINUTES)) == (0, 10, 0)
    provider.now = 1.9
    assert provider.ask(tokens(10, FIVE_MINUTES)) == (0, 10, 0)
    provider.now = 2.0
    assert provider.ask(tokens(10, FIVE_MINUTES)) == (10, 0, 0)


def test_a_marker_inside_a_tool_result_counts(provider: Provider) -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [block("word " * 20, FIVE_MINUTES)]}
    read, written, rest = provider.ask(result)
    assert (read, rest) == (0, 0)
    assert provider.ask(result) == (written, 0, 0)


# Over HTTP


@pytest.fixture
def cached() -> dict[str, Any]:
    """A request whose system prompt is long enough for the API's minimum."""
    return asking("x", system=[tokens(1024, FIVE_MINUTES)])


def test_usage_says_what_happened(claude: ClaudeServer, client: anthropic.Anthropic, cached: dict[str, Any]) -> None:
    first, second = client.messages.create(**cached).usage, client.messages.create(**cached).usage
    assert (first.cache_creation_input_tokens, first.cache_read_input_tokens, first.input_tokens) == (1024, 0, 1)
    assert first.cache_creation is not None
    assert first.cache_creation.ephemeral_5m_input_tokens == 1024
    assert (second.cache_creation_input_tokens, second.cache_read_input_tokens, second.input_tokens) == (0, 1024, 1)
    with client.messages.stream(**cached) as stream:
        assert stream.get_final_message().usage.cache_read_input_tokens == 1024
    claude.reset()
    assert client.messages.create(**cached).usage.cache_creation_input_tokens == 1024


def test_a_pre_warm_without_an_answer_writes_too(client: anthropic.Anthropic, cached: dict[str, Any]) -> None:
    assert client.messages.create(**cached | {"max_tokens": 0}).usage.cache_creation_input_tokens == 1024
    assert client.messages.create(**cached).usage.cache_read_input_tokens == 1024


def test_a_failed_call_writes_nothing(
    claude: ClaudeServer, client: anthropic.Anthropic, cached: dict[str, Any]
) -> None:
    claude.script(Reply.error(529), Reply.drop())
    with pytest.raises(anthropic.APIStatusError):
        client.messages.create(**cached)
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.create(**cached)
    assert client.messages.create(**cached).usage.cache_creation_input_tokens == 1024


def test_callers_at_the_same_time_all_pay(
    claude: ClaudeServer, client: anthropic.Anthropic, cached: dict[str, Any]
) -> None:
    all_here = threading.Barrier(3)
    claude.answer = lambda _: (all_here.wait(30), Reply.text("late"))[1]
    with ThreadPoolExecutor(3) as pool:
        usages = [message.usage for message in pool.map(lambda _: client.messages.create(**cached), range(3))]
    assert [usage.cache_creation_input_tokens for usage in usages] == [1024] * 3


def test_a_stream_that_has_begun_lets_others_read(
    claude: ClaudeServer, client: anthropic.Anthropic, cached: dict[str, Any]
) -> None:
    claude.script(Reply.text("a long answer" * 20, pace=60))
    with client.messages.create(**cached, stream=True) as stream:
        next(iter(stream))
        assert client.messages.create(**cached).usage.cache_read_input_tokens == 1024
    assert claude.peak == 2


def test_the_lag_counts_from_the_beginning_of_the_response(
    claude: ClaudeServer, client: anthropic.Anthropic, cached: dict[str, Any]
) -> None:
    claude.promptcache.lag = 120
    client.messages.create(**cached)
    assert client.messages.create(**cached).usage.cache_creation_input_tokens == 1024
    claude.promptcache.advance(121)
    assert client.messages.create(**cached).usage.cache_read_input_tokens == 1024


def test_five_breakpoints_are_one_too_many(client: anthropic.Anthropic) -> None:
    content = [tokens(1, FIVE_MINUTES)] * 5
    with pytest.raises(anthropic.BadRequestError, match="maximum of 4 blocks"):
        client.messages.create(**asking("", messages=[{"role": "user", "content": content}]))


def test_a_long_life_cannot_follow_a_short_one(client: anthropic.Anthropic) -> None:
    content = [tokens(1, FIVE_MINUTES), tokens(1, ONE_HOUR)]
    with pytest.raises(anthropic.BadRequestError, match="must not come after"):
        client.messages.create(**asking("", messages=[{"role": "user", "content": content}]))
