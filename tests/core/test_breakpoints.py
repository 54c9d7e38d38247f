from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aicache.core.breakpoints import blocks_of, breakpoints, placed
from aicache.core.fingerprint import meaning
from aicache.testing.prompt import Prompt as Model
from tests.core.test_fingerprint import json_values

FIVE_MINUTES = {"type": "ephemeral"}
ONE_HOUR = {"type": "ephemeral", "ttl": "1h"}
SECONDS = {"5m": 300.0, "1h": 3600.0}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
THINKING = {"type": "thinking", "thinking": "hm", "signature": "s"}
REDACTED = {"type": "redacted_thinking", "data": "x"}
TOOL = {"name": "look_up", "input_schema": {"type": "object"}}


def text(said: str, mark: Any = None) -> dict[str, Any]:
    return marked({"type": "text", "text": said}, mark)


def marked(block: dict[str, Any], mark: Any) -> dict[str, Any]:
    return {**block, "cache_control": mark} if mark is not None else block


def result(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": list(parts), **more}


def asking(*blocks: Any, **more: Any) -> dict[str, Any]:
    return {"model": "claude-sonnet-5", "max_tokens": 9, "messages": [{"role": "user", "content": [*blocks]}], **more}


def block(kind: str, marks: Any, **fields: Any) -> Any:
    return st.fixed_dictionaries({"type": st.just(kind), **fields}, optional={"cache_control": marks})


NONE = st.none()
MARKS = st.sampled_from([None, None, FIVE_MINUTES, ONE_HOUR, {**FIVE_MINUTES, "ttl": "5m"}])
SAID = st.sampled_from(["a", "b", "long " * 9])
TEXTS = block("text", MARKS, text=SAID | st.just(""))
# The API counts each marker in a result as one: no more than one is in there.
RESULTS = block("tool_result", NONE, content=st.lists(block("text", MARKS, text=SAID), max_size=1))
RESULTS |= block("tool_result", MARKS, content=st.lists(block("text", NONE, text=SAID), max_size=2))
MARKABLE = TEXTS | RESULTS | st.sampled_from([IMAGE, {**IMAGE, "cache_control": ONE_HOUR}])
OTHERS = block("tool_use", MARKS, input=SAID) | block("of_next_year", MARKS, said=SAID)
BLOCKS = MARKABLE | OTHERS | st.sampled_from([THINKING, REDACTED])
TOOLS = block("custom", MARKS, description=SAID) | block("custom", NONE, name=SAID, defer_loading=st.just(True))
CONTENT = SAID | st.lists(BLOCKS, min_size=1, max_size=3)
LAST = SAID | st.builds(lambda before, last: [*before, last], st.lists(BLOCKS, max_size=2), MARKABLE)
BODIES = st.builds(
    lambda turns, last, parts: {**parts, "messages": [*turns, {"role": "user", "content": last}]},
    st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": CONTENT}), max_size=3),
    LAST,
    st.fixed_dictionaries(
        {"model": st.just("claude-sonnet-5")},
        optional={
            "tools": st.lists(TOOLS, max_size=3),
            "system": SAID | st.lists(TEXTS, max_size=3),
            "cache_control": MARKS,
            "tool_choice": st.sampled_from(["auto", "any"]),
            "temperature": st.sampled_from([0, 1]),
        },
    ),
)
MANY = settings(max_examples=100, deadline=None)


def found(body: dict[str, Any]) -> list[tuple[int, float]]:
    return [(mark.position, mark.life) for mark in breakpoints(body, blocks_of(body))]


class TestTheBlocksOfARequest:
    def test_are_the_tools_the_system_prompt_and_the_messages_in_this_order(self) -> None:
        body = {
            "messages": [{"role": "user", "content": [text("1"), IMAGE]}, {"role": "assistant", "content": "2"}],
            "system": [text("s"), text("t")],
            "tools": [TOOL],
        }

        assert blocks_of(body) == [
            ("tools", TOOL),
            ("system", text("s")),
            ("system", text("t")),
            ({"role": "user"}, text("1")),
            ({"role": "user"}, IMAGE),
            ({"role": "assistant"}, text("2")),
        ]

    def test_are_one_of_text_where_there_is_a_bare_text(self) -> None:
        body = {"system": "s", "messages": [{"role": "user", "content": "hi"}]}

        assert blocks_of(body) == [("system", text("s")), ({"role": "user"}, text("hi"))]

    def test_say_what_their_message_says_besides(self) -> None:
        messages = [{"role": "system", "content": "s", "clear_at": "next_user_message"}, {"role": "user", "at": 1}]

        assert blocks_of({"messages": messages}) == [
            ({"role": "system", "clear_at": "next_user_message"}, text("s")),
            ({"role": "user", "at": 1}, None),
        ]


class TestTheBreakpointsOfARequest:
    def test_are_where_its_markers_are_and_live_as_long_as_these_say(self) -> None:
        body = asking(text("1", ONE_HOUR), text("2", FIVE_MINUTES), tools=[marked(TOOL, ONE_HOUR)], system="s")

        assert found(body) == [(0, 3600.0), (2, 3600.0), (3, 300.0)]

    @pytest.mark.parametrize("ttl", ["5m", "2h", None, 3600, []], ids=repr)
    def test_live_five_minutes_unless_they_say_otherwise(self, ttl: Any) -> None:
        assert found(asking(text("1", {**FIVE_MINUTES, "ttl": ttl}))) == [(0, 300.0)]

    @pytest.mark.parametrize("nothing", [None, "ephemeral", True, []], ids=repr)
    def test_are_none_where_there_is_no_marker(self, nothing: Any) -> None:
        body = asking({**text("1"), "cache_control": nothing}, cache_control=nothing)

        assert found(body) == []

    @pytest.mark.parametrize("mark", [FIVE_MINUTES, ONE_HOUR], ids=["5m", "1h"])
    def test_are_at_the_end_where_the_whole_request_is_marked(self, mark: Any) -> None:
        body = asking(text("1"), text("2"), system="s", cache_control=mark)

        assert found(body) == [(2, 3600.0 if mark is ONE_HOUR else 300.0)]

    def test_are_before_thinking_that_stands_at_the_end(self) -> None:
        assert found(asking(text("1"), THINKING, REDACTED, cache_control=ONE_HOUR)) == [(0, 3600.0)]
        assert found(asking(THINKING, cache_control=ONE_HOUR)) == []
        assert found({"cache_control": ONE_HOUR}) == []

    def test_are_the_callers_own_at_the_end_where_it_is_marked_besides(self) -> None:
        assert found(asking(text("1"), text("2", FIVE_MINUTES), cache_control=ONE_HOUR)) == [(1, 300.0)]

    def test_are_at_the_end_of_a_tool_result_of_which_a_part_is_marked(self) -> None:
        assert found(asking(result(text("1", ONE_HOUR), text("2")), text("3"))) == [(0, 3600.0)]

    def test_are_not_in_what_is_data(self) -> None:
        use = {"type": "tool_use", "id": "t", "name": "n", "input": {"cache_control": ONE_HOUR}}
        tool = {**TOOL, "input_schema": {"properties": {"cache_control": {"type": "string"}}}}

        assert found(asking(use, {"type": "text", "text": "1", "content": [text("2", ONE_HOUR)]}, tools=[tool])) == []

    @MANY
    @given(BODIES)
    def test_are_those_of_the_model(self, body: dict[str, Any]) -> None:
        assert [block for _, block in blocks_of(body)] == [block for _, block in Model(body, {}).blocks]
        assert found(body) == [(mark.position, SECONDS[mark.life]) for mark in Model(body, {}).breakpoints]


class TestPlacedBreakpoints:
    def test_are_at_the_end_of_the_system_prompt_the_tools_and_the_last_message(self) -> None:
        body = asking(text("2"), text("3"), tools=[TOOL, {**TOOL, "name": "b"}], system=[text("s"), text("t")])
        body["messages"][:0] = [{"role": "user", "content": "0"}, {"role": "assistant", "content": "1"}]

        assert placed(body) == {
            **body,
            "tools": [TOOL, {**TOOL, "name": "b", "cache_control": FIVE_MINUTES}],
            "system": [text("s"), text("t", FIVE_MINUTES)],
            "messages": [*body["messages"][:2], {"role": "user", "content": [text("2"), text("3", FIVE_MINUTES)]}],
        }

    def test_are_in_texts_too_that_were_bare(self) -> None:
        body = {"system": "s", "messages": [{"role": "user", "content": "hi", "of_next_year": 1}]}

        assert placed(body) == {
            "system": [text("s", FIVE_MINUTES)],
            "messages": [{"role": "user", "content": [text("hi", FIVE_MINUTES)], "of_next_year": 1}],
        }

    @pytest.mark.parametrize("mark", [FIVE_MINUTES, ONE_HOUR], ids=["5m", "1h"])
    def test_leave_the_end_to_a_marker_of_the_whole_request(self, mark: Any) -> None:
        body = asking(text("1"), system="s", cache_control=mark)
        after = placed(body)

        assert after["messages"] == body["messages"]
        assert after["cache_control"] == mark
        assert after["system"] == ([text("s", FIVE_MINUTES)] if mark is FIVE_MINUTES else "s")

    def test_are_as_many_as_the_api_takes_first_of_the_system_prompt_and_last_of_the_tools(self) -> None:
        def taken(own: int) -> list[str]:
            blocks = [text(str(number), FIVE_MINUTES) for number in range(own)]
            body = asking(text("end"), tools=[TOOL], system="s")
            body["messages"].insert(0, {"role": "user", "content": [*blocks, text("more")]})
            after = placed(body)
            assert after["messages"][0] == body["messages"][0]
            return [name for name in ("system", "messages", "tools") if after[name] != body[name]]

        assert taken(0) == taken(1) == ["system", "messages", "tools"]
        assert taken(2) == ["system", "messages"]
        assert taken(3) == ["system"]
        assert taken(4) == taken(5) == []

    def test_stand_in_no_place_whose_end_is_marked_already(self) -> None:
        body = asking(text("1", ONE_HOUR), tools=[marked(TOOL, ONE_HOUR)], system=[text("s", ONE_HOUR)])
        unsure = asking(text("1"), {"type": "of_next_year", "cache_control": FIVE_MINUTES})

        assert placed(body) == body
        assert placed(unsure) == unsure

    def test_come_after_a_block_that_is_marked_before_the_end(self) -> None:
        ours = text("2", FIVE_MINUTES)

        assert placed(asking(text("1", ONE_HOUR), text("2"))) == asking(text("1", ONE_HOUR), ours)

    @pytest.mark.parametrize(
        "last", [THINKING, REDACTED, text(""), {"type": "of_next_year"}, {"type": []}, {}, 5], ids=str
    )
    def test_are_before_a_block_of_which_nobody_knows_that_it_takes_one(self, last: Any) -> None:
        assert placed(asking(text("1"), last)) == asking(text("1", FIVE_MINUTES), last)
        assert placed(asking(last)) == asking(last)

    @pytest.mark.parametrize("last", [IMAGE, result(text("1")), {"type": "tool_use"}, {"type": "document"}], ids=str)
    def test_are_on_other_blocks_than_texts(self, last: Any) -> None:
        assert placed(asking(text("1"), last)) == asking(text("1"), marked(last, FIVE_MINUTES))

    def test_are_not_on_a_tool_that_is_loaded_later(self) -> None:
        later = {**TOOL, "defer_loading": True}

        assert placed(asking(tools=[TOOL, later]))["tools"] == [marked(TOOL, FIVE_MINUTES), later]
        assert placed(asking(tools=[later]))["tools"] == [later]

    def test_are_not_before_one_of_the_callers_that_lives_longer(self) -> None:
        after = placed(asking(text("1"), text("2"), tools=[TOOL], system=[text("s", ONE_HOUR), text("t")]))

        assert after["tools"] == [TOOL]
        assert after["system"] == [text("s", ONE_HOUR), text("t", FIVE_MINUTES)]
        assert after["messages"][0]["content"] == [text("1"), text("2", FIVE_MINUTES)]

    def test_are_after_such_a_one_in_an_earlier_message(self) -> None:
        body = asking(text("1"), text("2", ONE_HOUR))
        body["messages"] += [{"role": "user", "content": "3"}]

        assert placed(body)["messages"][1]["content"] == [text("3", FIVE_MINUTES)]

    def test_replace_a_marker_that_is_none(self) -> None:
        assert placed(asking({**text("1"), "cache_control": None})) == asking(text("1", FIVE_MINUTES))

    @MANY
    @given(BODIES)
    def test_are_no_more_than_four_and_leave_the_callers_own_where_they_are(self, body: dict[str, Any]) -> None:
        before, after = Model(body, {}), Model(placed(body), {})

        assert len(after.breakpoints) <= max(4, len(before.breakpoints))
        assert set(before.breakpoints) <= set(after.breakpoints)
        assert placed(body).get("cache_control") == body.get("cache_control")
        for mark in before.breakpoints:
            assert after.blocks[mark.position] == before.blocks[mark.position]

    @MANY
    @given(BODIES)
    @example(asking(text("1"), tools=[TOOL], system=[text("s"), text("t", ONE_HOUR)]))
    def test_are_put_only_where_the_api_takes_them(self, body: dict[str, Any]) -> None:
        before, after = Model(body, {}), Model(placed(body), {})
        long = max((mark.position for mark in before.breakpoints if mark.life == "1h"), default=-1)
        added = {mark.position for mark in after.breakpoints} - {mark.position for mark in before.breakpoints}

        for position in added:
            place, block = before.blocks[position]
            assert after.blocks[position] == (place, {**block, "cache_control": FIVE_MINUTES})
            assert position > long
            assert block.get("type") not in ("thinking", "redacted_thinking", "of_next_year")
            assert block.get("text") != ""
            assert not block.get("defer_loading")

    @MANY
    @given(BODIES)
    def test_are_placed_once_in_a_copy_that_means_the_same(self, body: dict[str, Any]) -> None:
        asked = copy.deepcopy(body)
        after = placed(body)

        assert body == asked
        assert meaning(after) == meaning(body)
        assert placed(after) == after

    def test_share_no_marker(self) -> None:
        placed(asking(text("1")))["messages"][0]["content"][0]["cache_control"]["ttl"] = "1h"

        assert placed(asking(text("1"))) == asking(text("1", FIVE_MINUTES))


# Of any JSON, where the API wants lists of blocks.
NONSENSE = st.fixed_dictionaries(
    {},
    optional={
        "tools": json_values,
        "system": json_values,
        "messages": json_values | st.lists(st.fixed_dictionaries({"role": json_values, "content": json_values})),
        "cache_control": json_values | st.just(ONE_HOUR),
    },
)


@settings(max_examples=50, deadline=None)
@given(NONSENSE)
def test_nonsense_raises_nothing(body: dict[str, Any]) -> None:
    after = placed(body)

    assert placed(after) == after
    assert meaning(after) == meaning(body)


class TestMarkersInsideOfBlocks:
    """The API counts each, and each has a life."""

    def result(self, *parts: Any, **more: Any) -> dict[str, Any]:
        return {"type": "tool_result", "tool_use_id": "t", "content": [*parts], **more}

    def test_take_up_room(self) -> None:
        full = self.result(text("1", FIVE_MINUTES), text("2", FIVE_MINUTES), cache_control=FIVE_MINUTES)
        body = asking(full, text("more"), system="s", tools=[TOOL])
        assert json.dumps(placed(body)).count("cache_control") == 4

        source = {"type": "content", "content": [text(str(at), FIVE_MINUTES) for at in range(4)]}
        body = asking({"type": "document", "source": source}, text("more"), system="s", tools=[TOOL])
        assert placed(body) == body

    def test_of_an_hour_have_no_short_one_before_them(self) -> None:
        body = asking(self.result(text("1", ONE_HOUR), cache_control=FIVE_MINUTES), text("last"), system="s")
        assert placed(body)["system"] == "s"


def test_no_breakpoint_is_placed_on_tools_that_are_loaded_later() -> None:
    later = {"type": "mcp_toolset", "mcp_server_name": "x", "default_config": {"defer_loading": True}}
    assert placed(asking(text("1"), tools=[TOOL, later]))["tools"] == [{**TOOL, "cache_control": FIVE_MINUTES}, later]
