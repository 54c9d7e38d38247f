from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from anthropic.types.beta import BetaToolUnionParam
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aicache.core.life import Life, life, shorter
from aicache.core.policy import Policy, Verdict, policies, suits, traits, unanswerable, verdict
from tests.core.test_fingerprint import hints

HOUR = 3600.0
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


class TestAPolicy:
    @pytest.mark.parametrize(
        ("field", "value", "accepted"),
        [
            ("ttl", -1, 'a number of seconds from 0 to 3153600000 (100 years), "end_of_hour" or "end_of_day"'),
            ("ttl", "end_of_week", '"end_of_hour" or "end_of_day"'),
            ("ttl", "3600", "a number of seconds"),
            ("ttl", None, "a number of seconds"),
            ("ttl", True, "a number of seconds"),
            ("ttl", timedelta(hours=1), "a number of seconds"),
            ("ttl", float("nan"), "a number of seconds"),
            ("ttl", float("inf"), "a number of seconds"),
            ("ttl", 10**30, "100 years"),
            ("ttl", [], "a number of seconds"),
            ("stale_while_revalidate", -0.1, "a number of seconds from 0 to"),
            ("stale_while_revalidate", "end_of_day", "a number of seconds from 0 to"),
            ("stale_while_revalidate", float("inf"), "100 years"),
            ("jitter", 1.1, "a number from 0 to 1"),
            ("jitter", -0.1, "a number from 0 to 1"),
            ("jitter", float("nan"), "a number from 0 to 1"),
            ("wait", -1, "None or a number of seconds from 0 to"),
            ("wait", "5", "None or a number of seconds from 0 to"),
            ("wait", float("inf"), "100 years"),
            ("max_bytes", -1, "a number of bytes from 0 up"),
            ("max_bytes", "1MB", "a number of bytes from 0 up"),
            ("max_bytes", None, "a number of bytes from 0 up"),
            ("store_tool_use", 1, "True or False"),
            ("store_truncated", "yes", "True or False"),
            ("store_refusals", None, "True or False"),
            ("allow_external_state", 0, "True or False"),
        ],
    )
    def test_refuses_what_it_cannot_use_by_name_value_and_what_it_accepts(
        self, field: str, value: Any, accepted: str
    ) -> None:
        with pytest.raises(ValueError, match="policy 'mine'") as caught:
            Policy("mine", **{field: value})

        assert f"{field} is {value!r}" in str(caught.value)
        assert accepted in str(caught.value)

    @pytest.mark.parametrize(
        "fields",
        [
            {"ttl": 0},
            {"ttl": 0.5},
            {"ttl": 10**9},
            {"ttl": "end_of_day"},
            {"ttl": "end_of_hour"},
            {"jitter": 0},
            {"jitter": 1},
            {"wait": None},
            {"wait": 0},
            {"stale_while_revalidate": 60},
            {"max_bytes": 0},
        ],
        ids=str,
    )
    def test_takes_what_it_says_that_it_accepts(self, fields: dict[str, Any]) -> None:
        policy = Policy("mine", **fields)

        assert {name: getattr(policy, name) for name in fields} == fields

    def test_is_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            Policy("mine").ttl = 1  # type: ignore[misc]

    def test_by_default_keeps_nothing_that_must_be_allowed_by_name(self) -> None:
        policy = Policy("mine")

        assert not policy.store_tool_use
        assert not policy.store_truncated
        assert not policy.store_refusals
        assert not policy.allow_external_state
        assert policy.stale_while_revalidate == 0


class TestThePolicies:
    def test_the_shipped_ones_live_as_long_as_documented(self) -> None:
        assert {name: policy.ttl for name, policy in policies({}).items()} == {
            "default": HOUR,
            "chat": 5 * 60,
            "analysis": 4 * HOUR,
            "batch": 24 * HOUR,
            "retry": 60,
            "static": 30 * 24 * HOUR,
            "daily": "end_of_day",
            "hourly": "end_of_hour",
            "live": 60,
        }

    def test_each_knows_its_name(self) -> None:
        assert all(policy.name == name for name, policy in policies({"mine": {}}).items())

    def test_a_site_adds_its_own_and_keeps_the_shipped(self) -> None:
        found = policies({"mine": {"ttl": 7}})

        assert found["mine"].ttl == 7
        assert found["chat"].ttl == 300

    def test_what_the_default_says_anew_holds_for_all_that_do_not_say_it(self) -> None:
        found = policies({"default": {"ttl": 10, "store_truncated": True}, "mine": {"jitter": 0.1}})

        assert found["mine"] == Policy("mine", ttl=10, store_truncated=True, jitter=0.1)
        assert found["chat"] == Policy("chat", ttl=300, store_truncated=True)

    def test_a_shipped_name_may_be_given_another_meaning(self) -> None:
        assert policies({"daily": {"ttl": 86_400}})["daily"].ttl == 86_400

    @pytest.mark.parametrize(
        ("own", "said"),
        [
            ({"mine": {"tll": 5}}, ["'mine'", "'tll'", "ttl"]),
            ({"mine": {"name": "other"}}, ["'mine'", "'name'"]),
            ({"mine": {5: 5}}, ["'mine'", "5"]),
            ({"mine": 5}, ["'mine'", "5", "a dict of ttl"]),
            ({"mine": None}, ["'mine'", "None", "a dict of ttl"]),
            ({"mine": {"ttl": -5}}, ["'mine'", "ttl", "-5"]),
            ({"default": {"ttl": -5}}, ["'default'", "ttl", "-5"]),
            ({7: {}}, ["7", "a string"]),
        ],
        ids=str,
    )
    def test_a_mistake_is_named(self, own: Any, said: list[str]) -> None:
        with pytest.raises((ValueError, TypeError)) as caught:
            policies(own)

        for word in said:
            assert word in str(caught.value)


zones = st.sampled_from(
    [
        ZoneInfo(name)
        for name in (
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "Asia/Kolkata",
            "Asia/Kathmandu",
            "Australia/Lord_Howe",
            "America/Havana",
            "America/Santiago",
            "Asia/Beirut",
            "America/Nuuk",
            "Pacific/Apia",
        )
    ]
)
instants = st.datetimes(datetime(2008, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
DAILY, HOURLY = Policy("daily", ttl="end_of_day"), Policy("hourly", ttl="end_of_hour")


def local(zone: tzinfo, *parts: int, fold: int = 0) -> datetime:
    return datetime(*parts, tzinfo=zone, fold=fold)  # type: ignore[misc,arg-type]


def seconds(policy: Policy, now: datetime, chance: float = 0.0) -> float:
    return life(policy, now, chance).fresh_until - now.timestamp()


class TestTheLifeOfAnAnswer:
    def test_is_counted_from_now_and_absolute(self) -> None:
        now = NOON.timestamp()

        assert life(Policy("p", ttl=60, jitter=0), NOON, 0.5) == Life(now + 60, now + 60)

    def test_goes_on_stale_for_as_long_as_the_policy_says(self) -> None:
        now = NOON.timestamp()

        assert life(Policy("p", ttl=60, stale_while_revalidate=30), NOON, 0.0) == Life(now + 60, now + 90)

    @pytest.mark.parametrize("stale", [0, 30])
    def test_is_none_where_the_ttl_is_nought(self, stale: float) -> None:
        now = NOON.timestamp()

        assert life(Policy("p", ttl=0, stale_while_revalidate=stale, jitter=1), NOON, 0.9) == Life(now, now)

    @settings(max_examples=100, deadline=None)
    @given(
        st.floats(0, 10**8) | st.just("end_of_day") | st.just("end_of_hour"),
        st.floats(0, 1),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 10**6),
    )
    def test_is_only_ever_shortened_by_jitter(self, ttl: Any, jitter: float, chance: float, stale: float) -> None:
        plain = life(Policy("p", ttl=ttl, jitter=0, stale_while_revalidate=stale), NOON, chance)
        cut = life(Policy("p", ttl=ttl, jitter=jitter, stale_while_revalidate=stale), NOON, chance)

        assert NOON.timestamp() <= cut.fresh_until <= plain.fresh_until
        assert cut.dies_at <= plain.dies_at

    def test_is_cut_by_no_more_than_the_jitters_share(self) -> None:
        policy = Policy("p", ttl=1000, jitter=0.1)

        assert seconds(policy, NOON, 0.0) == 1000
        assert seconds(policy, NOON, 0.5) == 950
        assert 900 <= seconds(policy, NOON, 0.999_999) < 900.1

    @pytest.mark.parametrize(
        ("zone", "now", "hours"),
        [
            ("UTC", (2026, 3, 2, 0, 0), 24),
            ("UTC", (2026, 3, 2, 23, 0), 1),
            ("Asia/Kolkata", (2026, 3, 2, 23, 30), 0.5),
            ("Europe/Berlin", (2026, 3, 29, 0, 0), 23),  # clocks go forward
            ("Europe/Berlin", (2026, 3, 29, 12, 0), 12),
            ("Europe/Berlin", (2026, 10, 25, 0, 0), 25),  # clocks go back
            ("Europe/Berlin", (2026, 10, 24, 22, 0), 2),
            ("America/New_York", (2026, 3, 8, 1, 0), 22),
            ("America/New_York", (2026, 11, 1, 1, 0), 24),  # the first of two
            ("Australia/Lord_Howe", (2026, 4, 5, 0, 0), 24.5),  # back by half an hour
            ("Australia/Lord_Howe", (2026, 10, 4, 0, 0), 23.5),
            ("Asia/Beirut", (2026, 3, 28, 12, 0), 12),  # midnight itself is skipped
            ("America/Havana", (2026, 10, 31, 12, 0), 12),  # midnight comes twice
            ("Pacific/Apia", (2011, 12, 29, 12, 0), 12),  # a whole day is skipped
        ],
    )
    def test_ends_with_the_day_of_the_zone(self, zone: str, now: tuple[int, ...], hours: float) -> None:
        assert seconds(DAILY, local(ZoneInfo(zone), *now)) == hours * HOUR

    def test_ends_with_the_day_from_the_second_of_two_like_hours_too(self) -> None:
        assert seconds(DAILY, local(ZoneInfo("America/New_York"), 2026, 11, 1, 1, 0, fold=1)) == 23 * HOUR
        # Where the clocks once went back over midnight, to the day before.
        assert seconds(DAILY, local(ZoneInfo("America/St_Johns"), 2010, 11, 6, 23, 30, fold=1)) == HOUR / 2

    @pytest.mark.parametrize(
        ("zone", "now", "fold", "minutes"),
        [
            ("UTC", (2026, 3, 2, 12, 0), 0, 60),
            ("UTC", (2026, 3, 2, 12, 59), 0, 1),
            ("Asia/Kolkata", (2026, 3, 2, 12, 45), 0, 15),
            ("Asia/Kathmandu", (2026, 3, 2, 12, 45), 0, 15),
            ("Europe/Berlin", (2026, 3, 29, 1, 40), 0, 20),
            ("Europe/Berlin", (2026, 10, 25, 2, 40), 0, 20),
            ("Europe/Berlin", (2026, 10, 25, 2, 40), 1, 20),
            ("Australia/Lord_Howe", (2026, 4, 5, 1, 45), 0, 15),
            ("Australia/Lord_Howe", (2026, 4, 5, 1, 45), 1, 15),
            ("Australia/Lord_Howe", (2026, 10, 4, 2, 45), 0, 15),
        ],
    )
    def test_ends_with_the_hour_of_the_zone(self, zone: str, now: tuple[int, ...], fold: int, minutes: float) -> None:
        assert seconds(HOURLY, local(ZoneInfo(zone), *now, fold=fold)) == minutes * 60

    @settings(max_examples=300, deadline=None)
    @given(instants, zones)
    @example(datetime(2026, 10, 25, 0, 30, tzinfo=UTC), ZoneInfo("Europe/Berlin"))
    @example(datetime(2026, 10, 24, 20, 30, tzinfo=UTC), ZoneInfo("Asia/Beirut"))
    def test_ends_at_the_first_moment_of_another_day_wherever_and_whenever(self, at: datetime, zone: ZoneInfo) -> None:
        now = at.astimezone(zone)
        end = life(DAILY, now, 0.0).fresh_until
        last, first = (datetime.fromtimestamp(when, zone) for when in (end - 0.001, end + 0.001))

        assert end > now.timestamp()
        assert last.date() == now.date() < first.date()

    @settings(max_examples=200, deadline=None)
    @given(instants, zones)
    def test_of_the_hour_ends_within_it_wherever_and_whenever(self, at: datetime, zone: ZoneInfo) -> None:
        now = at.astimezone(zone)
        end = life(HOURLY, now, 0.0).fresh_until
        last = datetime.fromtimestamp(end - 0.001, zone)

        assert 0 < end - now.timestamp() <= HOUR
        assert (last.hour, last.minute, last.second) == (now.hour, 59, 59)


BODY: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
DEFAULT, OUTSIDE = Policy("default"), Policy("outside", allow_external_state=True)
FILE_SOURCE = {"type": "image", "source": {"type": "file", "file_id": "file_1"}}
URL_SOURCE = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}


def holding(*blocks: Any) -> dict[str, Any]:
    return {**BODY, "messages": [{"role": "user", "content": list(blocks)}]}


def tool_kinds() -> list[str]:
    """The type of every typed tool that the SDK knows."""
    found = [get_args(get_args(hints(tool)["type"])[0]) for tool in get_args(BetaToolUnionParam)]
    return sorted({kinds[0] for kinds in found if kinds and isinstance(kinds[0], str)})


CLIENT = ("custom", "bash_", "browser_toolset_", "computer_", "memory_", "text_editor_")
PROVIDER = ("advisor_", "code_execution_", "mcp_toolset", "tool_search_", "web_fetch_", "web_search_")


class TestWhatNoStoredAnswerCanStandFor:
    def test_a_plain_question_is_answerable(self) -> None:
        assert unanswerable(BODY, DEFAULT) is None

    def test_a_request_without_messages_is_none_of_our_trouble(self) -> None:
        assert unanswerable({}, DEFAULT) is None
        assert unanswerable({"messages": "?", "tools": "?", "system": 7}, DEFAULT) is None

    @pytest.mark.parametrize("policy", [DEFAULT, OUTSIDE])
    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"max_tokens": 0}, "prewarm"),
            ({"thread": {"type": "create"}}, "stateful:thread"),
            ({"container": "container_1"}, "stateful:container"),
            ({"mcp_servers": [{"type": "url", "url": "https://example.com"}]}, "stateful:mcp_servers"),
            ({"fallback_credit_token": "token"}, "stateful:fallback_credit_token"),
        ],
    )
    def test_state_at_the_provider_is_never_answered_whatever_the_policy(
        self, fields: dict[str, Any], reason: str, policy: Policy
    ) -> None:
        assert unanswerable({**BODY, **fields}, policy) == reason

    @pytest.mark.parametrize("field", ["thread", "container", "mcp_servers", "fallback_credit_token"])
    def test_a_field_that_is_given_as_nothing_is_no_state(self, field: str) -> None:
        assert unanswerable({**BODY, field: None}, DEFAULT) is None

    def test_the_sdk_knows_no_tool_that_is_not_told_here_who_runs_it(self) -> None:
        assert [kind for kind in tool_kinds() if not kind.startswith((*CLIENT, *PROVIDER))] == []
        assert len(tool_kinds()) > 20

    @pytest.mark.parametrize("kind", tool_kinds())
    def test_tools_of_the_provider_are_bypassed_and_the_callers_are_not(self, kind: str) -> None:
        reason = unanswerable({**BODY, "tools": [{"name": "plain"}, {"type": kind, "name": "x"}]}, DEFAULT)

        assert reason == (f"server_tool:{kind}" if kind.startswith(PROVIDER) else None)

    @pytest.mark.parametrize("kind", ["custom_of_next_year", "of_next_year", "bashful", ""])
    def test_a_tool_of_an_unknown_type_may_run_at_the_provider(self, kind: str) -> None:
        assert unanswerable({**BODY, "tools": [{"type": kind, "name": "x"}]}, DEFAULT) == f"server_tool:{kind}"

    @pytest.mark.parametrize(
        "block",
        [
            {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {"type": "web_search_9"}}},
            {
                "type": "compaction",
                "tool_changes": [
                    {
                        "type": "tool_addition",
                        "tool": {"type": "tool_definition", "definition": {"type": "web_search_9"}},
                    }
                ],
            },
        ],
    )
    def test_a_provider_tool_that_is_added_in_the_conversation_counts_too(self, block: Any) -> None:
        assert unanswerable(holding(block), DEFAULT) == "server_tool:web_search_9"

    def test_a_client_tool_that_is_added_in_the_conversation_stays_answerable(self) -> None:
        added = {"type": "tool_definition", "definition": {"name": "mine", "input_schema": {}}}

        assert unanswerable(holding({"type": "tool_addition", "tool": added}), DEFAULT) is None

    @pytest.mark.parametrize(
        ("block", "reason"),
        [
            (FILE_SOURCE, "external_source:file"),
            (URL_SOURCE, "external_source:url"),
            ({"type": "container_upload", "file_id": "file_1"}, "external_source:container_upload"),
        ],
    )
    @pytest.mark.parametrize(
        "place",
        [
            lambda block: {**BODY, "system": [block]},
            lambda block: holding(block),
            lambda block: holding({"type": "text", "text": "x"}, {"type": "tool_result", "content": [block]}),
            lambda block: holding({"type": "document", "source": {"type": "content", "content": [block]}}),
            lambda block: holding(
                {
                    "type": "tool_result",
                    "content": [{"type": "document", "source": {"type": "content", "content": [block]}}],
                }
            ),
            lambda block: holding({"type": "web_fetch_tool_result", "content": {"content": block}}),
            lambda block: {**BODY, "messages": ({"role": "user", "content": (block,)},)},
        ],
        ids=["system", "message", "tool_result", "document", "document in tool_result", "web_fetch", "tuples"],
    )
    def test_what_the_provider_fetches_is_found_wherever_it_stands(self, place: Any, block: Any, reason: str) -> None:
        assert unanswerable(place(block), DEFAULT) == reason
        assert unanswerable(place(block), OUTSIDE) is None

    @pytest.mark.parametrize(
        "block",
        [
            {"type": "image", "source": {"type": "base64", "data": "aGk="}},
            {"type": "document", "source": {"type": "text", "data": "x"}},
            {"type": "search_result", "source": "https://example.com", "content": [{"type": "text", "text": "x"}]},
            {"type": "tool_use", "input": {"source": {"type": "url"}, "content": "x"}},
            "no block",
        ],
    )
    def test_what_the_request_brings_along_is_answerable(self, block: Any) -> None:
        assert unanswerable(holding(block), DEFAULT) is None

    def test_a_site_may_allow_external_state(self) -> None:
        tools = {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}

        assert unanswerable({**holding(FILE_SOURCE, URL_SOURCE), **tools}, OUTSIDE) is None

    @pytest.mark.parametrize("depth", [3000, 100_000])
    def test_deep_nesting_breaks_nothing(self, depth: int) -> None:
        block: Any = {"type": "tool_result", "content": "x"}
        for _ in range(depth):
            block = {"type": "tool_result", "content": [block]}

        assert unanswerable(holding(block), DEFAULT) == "unkeyable"


def a_message(stop: Any = "end_turn", *kinds: str, **fields: Any) -> dict[str, Any]:
    content = [{"type": kind} for kind in kinds or ("text",)]
    return {"type": "message", "role": "assistant", "content": content, "stop_reason": stop, **fields}


KEEP = Verdict(store=True, share=True)
ALL = Policy("all", store_tool_use=True, store_truncated=True, store_refusals=True, allow_external_state=True)


def judged(message: Any, *, size: int = 100, **choices: Any) -> Verdict:
    return verdict(message, size, Policy("p", **choices))


class TestTheVerdictOnAnAnswer:
    @pytest.mark.parametrize("stop", ["end_turn", "stop_sequence"])
    def test_a_finished_answer_is_kept_and_shared(self, stop: str) -> None:
        assert judged(a_message(stop, "thinking", "text")) == KEEP

    @pytest.mark.parametrize(
        ("stop", "flag", "share"),
        [
            ("max_tokens", "store_truncated", True),
            ("refusal", "store_refusals", True),
            ("tool_use", "store_tool_use", False),
        ],
    )
    def test_an_answer_of_another_kind_is_kept_only_where_the_policy_says_so_by_name(
        self, stop: str, flag: str, share: bool
    ) -> None:
        assert judged(a_message(stop)) == Verdict(store=False, share=share, reason=f"stop_reason:{stop}")
        assert judged(a_message(stop), **{flag: True}) == KEEP
        others = {"store_truncated", "store_refusals", "store_tool_use"} - {flag}
        assert not judged(a_message(stop), **dict.fromkeys(others, True)).store

    @pytest.mark.parametrize(
        "stop", ["pause_turn", "model_context_window_exceeded", "compaction", "of_next_year", None, "", 7, []]
    )
    def test_an_unfinished_or_unknown_end_is_neither_kept_nor_shared_whatever_the_policy(self, stop: Any) -> None:
        refused = Verdict(store=False, share=False, reason=f"stop_reason:{stop}")

        assert judged(a_message(stop)) == refused
        assert verdict(a_message(stop), 100, ALL) == refused

    @pytest.mark.parametrize("stop", ["end_turn", "max_tokens", "stop_sequence", "refusal"])
    def test_a_tool_call_in_the_answer_counts_whatever_ended_it(self, stop: str) -> None:
        refused = judged(a_message(stop, "text", "tool_use"), store_truncated=True, store_refusals=True)

        assert refused == Verdict(store=False, share=False, reason="stop_reason:tool_use")

    @pytest.mark.parametrize("stop", ["max_tokens", "refusal", "pause_turn", "model_context_window_exceeded", None])
    def test_leave_to_keep_tool_calls_is_no_leave_to_keep_broken_ones(self, stop: Any) -> None:
        refused = judged(a_message(stop, "tool_use"), store_tool_use=True)

        assert not refused.store
        assert refused.reason == f"stop_reason:{stop}"

    @pytest.mark.parametrize(
        "kind",
        [
            "server_tool_use",
            "mcp_tool_use",
            "web_search_tool_result",
            "code_execution_tool_result",
            "of_next_year_tool_result",
        ],
    )
    def test_what_a_tool_of_the_provider_found_is_for_those_who_asked_now(self, kind: str) -> None:
        assert judged(a_message("end_turn", "text", kind)) == Verdict(store=False, share=True, reason="server_tool")
        assert judged(a_message("end_turn", "text", kind), allow_external_state=True) == KEEP

    def test_an_answer_out_of_a_container_is_not_kept(self) -> None:
        message = a_message(container={"id": "container_1"})

        assert judged(message).reason == "server_tool"
        assert judged(message, allow_external_state=True) == KEEP
        assert judged(a_message(container=None)) == KEEP

    def test_an_answer_may_be_as_large_as_the_policy_says_and_no_larger(self) -> None:
        assert judged(a_message(), size=100, max_bytes=100) == KEEP
        assert judged(a_message(), size=101, max_bytes=100) == Verdict(store=False, share=True, reason="too_large")
        assert verdict(a_message(), 1_000_001, DEFAULT).reason == "too_large"

    @pytest.mark.parametrize(
        "message", [None, [], "text", 7, {}, {"type": "error"}, {"type": ["message"]}, {"stop_reason": "end_turn"}]
    )
    def test_what_is_no_message_is_nobody_elses(self, message: Any) -> None:
        assert verdict(message, 1, ALL) == Verdict(store=False, share=False, reason="not_a_message")

    @pytest.mark.parametrize("content", [None, [], "text", ["text"], [{"type": []}], [{}]], ids=str)
    def test_odd_content_breaks_nothing(self, content: Any) -> None:
        assert judged({"type": "message", "stop_reason": "end_turn", "content": content}) == KEEP


class TestAReaderOfAnotherPolicy:
    @given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e4))
    def test_shortens_a_life_and_lengthens_none(self, fresh: float, stale: float, own: float, own_stale: float) -> None:
        kept = Life(fresh, fresh + stale)
        found = shorter(kept, Life(own, own + own_stale))

        assert found.fresh_until == min(fresh, own)
        assert found.fresh_until <= found.dies_at <= kept.dies_at
        assert found.dies_at <= found.fresh_until + own_stale + 1e-9

    @given(st.sampled_from(list(policies({}).values())), st.floats(0, 1))
    def test_takes_nothing_from_the_life_that_it_would_have_given_itself(self, policy: Policy, chance: float) -> None:
        given = life(policy, NOON, chance)

        assert shorter(given, life(policy, NOON, 0)) == given

    @pytest.mark.parametrize("ttl", ["end_of_day", "end_of_hour"])
    def test_ends_an_answer_with_the_day_or_hour_in_which_it_was_kept(self, ttl: Any) -> None:
        kept = life(Policy("static", ttl=30 * 24 * HOUR), NOON, 0)
        own = life(Policy("mine", ttl=ttl), NOON, 0)

        assert shorter(kept, own) == own

    @pytest.mark.parametrize(
        ("message", "found"),
        [
            (a_message(), []),
            (a_message("tool_use"), ["stop_reason:tool_use"]),
            (a_message("max_tokens", "text", "tool_use"), ["stop_reason:max_tokens", "stop_reason:tool_use"]),
            (a_message("refusal"), ["stop_reason:refusal"]),
            (a_message("pause_turn", "server_tool_use"), ["server_tool"]),
            (a_message(container={"id": "c"}), ["server_tool"]),
            (None, []),
            ([], []),
        ],
        ids=str,
    )
    def test_judges_by_the_traits_that_are_kept_with_the_answer(self, message: Any, found: list[str]) -> None:
        assert traits(message) == set(found)
        assert suits(traits(message), ALL) == KEEP
        assert suits(traits(message), DEFAULT).store == (not found)
