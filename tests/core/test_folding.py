from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.core.folding import unfolded
from aicache.core.recording import Recording
from aicache.core.sse import as_json, written

Event = dict[str, Any]
Block = dict[str, Any]

ASKING: Any = {"model": "claude-sonnet-5", "max_tokens": 10, "messages": [{"role": "user", "content": "x"}]}


class Sdk:
    """The real client, and what it makes of bodies that it is served."""

    def __init__(self) -> None:
        self._served = (b"", "")
        transport = httpx2.MockTransport(self._answer)
        self._client = anthropic.Anthropic(api_key="k", max_retries=0, http_client=httpx2.Client(transport=transport))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        body, kind = self._served
        return httpx2.Response(200, headers={"content-type": kind}, stream=httpx2.ByteStream(body), request=request)

    def plain(self, body: bytes, beta: bool = True) -> dict[str, Any]:
        self._served = (body, "application/json")
        return told((self._client.beta.messages if beta else self._client.messages).create(**ASKING))

    def streamed(self, body: bytes, beta: bool = True) -> dict[str, Any]:
        self._served = (body, "text/event-stream")
        with (self._client.beta.messages if beta else self._client.messages).stream(**ASKING) as stream:
            return told(stream.get_final_message())


def told(message: Any) -> dict[str, Any]:
    """What a message says: the accumulator adds empty fields of its own."""
    said: dict[str, Any] = message.model_dump(mode="json", exclude_none=True, warnings=False)
    return said


SDK = Sdk()


def wire(event: Mapping[str, Any], ensure_ascii: bool = False) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=ensure_ascii)}\n\n".encode()


def recorded(events: Iterable[Event]) -> Recording:
    recording = Recording()
    recording.feed(b"".join(map(wire, events)))
    return recording


TEXT = st.text(max_size=30)
COUNT = st.integers(0, 10**6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
INPUT = st.just({}) | st.dictionaries(TEXT, JSON, max_size=3)


def shaped(type: str, optional: dict[str, Any] | None = None, **fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(type), **fields}, optional=optional)


CITATIONS = shaped(
    "char_location",
    {"document_title": st.none() | TEXT},
    cited_text=TEXT,
    document_index=COUNT,
    start_char_index=COUNT,
    end_char_index=COUNT,
) | shaped("web_search_result_location", cited_text=TEXT, encrypted_index=TEXT, title=st.none() | TEXT, url=TEXT)
TEXTS = shaped("text", {"citations": st.none() | st.lists(CITATIONS, max_size=3)}, text=TEXT)
RESULT = shaped("web_search_result", title=TEXT, url=TEXT, encrypted_content=TEXT, page_age=st.none() | TEXT)
RAN = {"stdout": TEXT, "stderr": TEXT, "return_code": st.integers(0, 255), "content": st.just([])}
ERROR = shaped("web_search_tool_result_error", error_code=st.just("unavailable"))
CALLER = {"caller": shaped("direct")}

BLOCKS = st.one_of(
    TEXTS,
    shaped("thinking", thinking=TEXT, signature=TEXT),
    shaped("redacted_thinking", data=TEXT),
    shaped("tool_use", CALLER, id=TEXT, name=TEXT, input=INPUT),
    shaped("server_tool_use", CALLER, id=TEXT, name=st.sampled_from(["web_search", "code_execution"]), input=INPUT),
    shaped("web_search_tool_result", tool_use_id=TEXT, content=ERROR | st.lists(RESULT, max_size=2)),
    shaped("code_execution_tool_result", tool_use_id=TEXT, content=shaped("code_execution_result", **RAN)),
    shaped("bash_code_execution_tool_result", tool_use_id=TEXT, content=shaped("bash_code_execution_result", **RAN)),
    shaped("container_upload", file_id=TEXT),
    shaped("sent_in_one_piece", {"text": TEXT}, payload=JSON),
)
BETA_BLOCKS = st.one_of(
    shaped("mcp_tool_use", id=TEXT, name=TEXT, server_name=TEXT, input=INPUT),
    shaped("mcp_tool_result", tool_use_id=TEXT, is_error=st.booleans(), content=TEXT | st.lists(TEXTS, max_size=2)),
    shaped("compaction", {"encrypted_content": TEXT, "signature": TEXT}, content=st.none() | TEXT),
    st.fixed_dictionaries(
        {
            "type": st.just("fallback"),
            "from": st.just({"model": "claude-fable-5"}),
            "to": st.sampled_from([{"model": "claude-opus-5"}, {"model": "claude-sonnet-5"}]),
            "trigger": st.just({"type": "refusal", "category": "cyber"}),
        }
    ),
)
CACHED = {"cache_creation_input_tokens": COUNT, "cache_read_input_tokens": COUNT}
COUNTS: dict[str, Any] = {
    **{name: st.none() | count for name, count in CACHED.items()},
    "cache_creation": st.fixed_dictionaries({"ephemeral_5m_input_tokens": COUNT, "ephemeral_1h_input_tokens": COUNT}),
    "service_tier": st.just("standard"),
    "server_tool_use": st.fixed_dictionaries({"web_search_requests": COUNT, "web_fetch_requests": COUNT}),
    "output_tokens_details": st.none() | st.fixed_dictionaries({"thinking_tokens": COUNT}),
}
ITERATION = shaped("message", input_tokens=COUNT, output_tokens=COUNT, **CACHED)
BETA_COUNTS = {
    "iterations": st.lists(ITERATION, max_size=2),
    "fallback_credit": st.just({"status": {"type": "redeemed"}}),
}
ENDS: dict[str, Any] = {
    "stop_details": st.none() | shaped("refusal", category=st.just("cyber"), explanation=st.none() | TEXT),
    "container": st.none() | st.fixed_dictionaries({"id": TEXT, "expires_at": st.just("2027-01-01T00:00:00Z")}),
}
EDIT = shaped("clear_tool_uses_20250919", cleared_input_tokens=COUNT, cleared_tool_uses=COUNT)
DROPPED = shaped("thinking_dropped", path=TEXT, reason=st.just("model_binding_mismatch"))
BETA_ENDS = {
    "context_management": st.none() | st.fixed_dictionaries({"applied_edits": st.lists(EDIT, max_size=2)}),
    "input_transformations": st.lists(DROPPED, max_size=2),
}


@st.composite
def messages(draw: st.DrawFn, beta: bool) -> dict[str, Any]:
    """A plain answer."""
    counts, ends = {**COUNTS, **(BETA_COUNTS if beta else {})}, {**ENDS, **(BETA_ENDS if beta else {})}
    content = draw(st.lists(BLOCKS | BETA_BLOCKS if beta else BLOCKS, max_size=4))
    hops = [block["to"]["model"] for block in content if block["type"] == "fallback"]
    fields = {
        "id": st.just("msg_1"),
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": st.just(["claude-fable-5", *hops][-1]),
        "content": st.just(content),
        "stop_reason": st.sampled_from(["end_turn", "max_tokens", "tool_use", "stop_sequence", "refusal"]),
        "stop_sequence": st.none() | TEXT,
        "usage": st.fixed_dictionaries({"input_tokens": COUNT, "output_tokens": COUNT}, optional=counts),
    }
    return draw(st.fixed_dictionaries(fields, optional=ends))


START: Event = {
    "type": "message_start",
    "message": {"id": "msg_1", "type": "message", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}},
}
END: Event = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
STOP: Event = {"type": "message_stop"}
LAST = [END, STOP]


def begin(block: Any, index: int = 0) -> Event:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(type: str, **fields: Any) -> Event:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": type, **fields}}


def end(index: int = 0) -> Event:
    return {"type": "content_block_stop", "index": index}


def ended(**fields: Any) -> Event:
    return {**END, **fields}


TEXT_BLOCK: Block = {"type": "text", "text": ""}
TOOL_BLOCK: Block = {"type": "tool_use", "id": "toolu_1", "name": "t", "input": {}}
THINKING_BLOCK: Block = {"type": "thinking", "thinking": "", "signature": ""}
SAID = delta("text_delta", text="x")
# Has all that a delta may lengthen or replace, and is none of the kinds that have deltas.
LIKE_ALL: Block = {"type": "sent_in_one_piece", "text": "", "thinking": "", "signature": "", "content": "", "input": {}}
# Deltas, each after a block that they fit.
KNOWN: list[tuple[Block, Event]] = [
    (TEXT_BLOCK, SAID),
    (TEXT_BLOCK, delta("citations_delta", citation={"type": "search_result_location", "cited_text": "x"})),
    (THINKING_BLOCK, delta("thinking_delta", thinking="x")),
    (THINKING_BLOCK, delta("signature_delta", signature="x")),
    (TOOL_BLOCK, delta("input_json_delta", partial_json='{"a": 1}')),
    ({**TOOL_BLOCK, "type": "server_tool_use"}, delta("input_json_delta", partial_json='{"a": 1}')),
    ({**TOOL_BLOCK, "type": "mcp_tool_use"}, delta("input_json_delta", partial_json='{"a": 1}')),
    ({"type": "compaction", "content": None}, delta("compaction_delta", content="x", encrypted_content="y")),
    ({"type": "compaction", "content": None, "encrypted_content": "y"}, delta("compaction_delta", content="x")),
]
MISFITS = [
    (block, event)
    for block in [*(block for block, _ in KNOWN), LIKE_ALL]
    for event in [event for _, event in KNOWN]
    if not any((block["type"], event) == (fitting["type"], known) for fitting, known in KNOWN)
]
NO_INPUTS = ["{", '{"a": "b', '{"a": 1}}', "{'a': 1}", " ", '"\\ud800"', "[" * 5000 + "]" * 5000, "1" * 5000]
NO_TEXTS: list[Any] = [None, 1, ["x"]]


def named(pair: tuple[Block, Event]) -> str:
    return f"{pair[1]['delta']['type']} of {pair[0]['type']}"


UNFOLDABLE: dict[str, list[Event]] = {
    "an unknown event": [START, {"type": "message_pause"}, *LAST],
    "an unknown delta": [START, begin(TEXT_BLOCK), delta("words_delta", text="x"), end(), *LAST],
    "a delta before any block": [START, SAID, *LAST],
    "a delta after its block": [START, begin(TEXT_BLOCK), end(), SAID, *LAST],
    "a delta of another block": [START, begin(TEXT_BLOCK), {**SAID, "index": 1}, end(), *LAST],
    "a block that does not end": [START, begin(TEXT_BLOCK), SAID, *LAST],
    "a block that ends after the next began": [START, begin(TEXT_BLOCK), begin(TEXT_BLOCK, 1), end(1), end(), *LAST],
    "a block that never ends before the next": [START, begin(TEXT_BLOCK), begin(TEXT_BLOCK, 1), end(1), *LAST],
    "a block that ends under another number": [START, begin(TEXT_BLOCK, 1), end(), *LAST],
    "the end of another block": [START, begin(TEXT_BLOCK), end(1), *LAST],
    "the end of no block": [START, end(), *LAST],
    "two ends of a block": [START, begin(TEXT_BLOCK), end(), end(), *LAST],
    "a block left out": [START, begin(TEXT_BLOCK, 1), end(1), *LAST],
    "blocks out of order": [START, begin(TEXT_BLOCK, 1), end(1), begin(TEXT_BLOCK), end(), *LAST],
    "a block for the second time": [START, begin(TEXT_BLOCK), end(), begin(TEXT_BLOCK), end(), *LAST],
    "a block without a type": [START, begin({"text": "x"}), end(), *LAST],
    "a block that is a string": [START, begin("text"), end(), *LAST],
    "an unknown field at the end": [START, ended(delta={"stop_reason": "end_turn", "mood": "good"}), STOP],
    "an unknown field beside the end": [START, ended(mood="good"), STOP],
    "an unknown count": [START, ended(usage={"output_tokens": 9, "sighs": 1}), STOP],
    "a count that is told in the beginning": [START, ended(usage={"output_tokens": 9, "service_tier": "batch"}), STOP],
    "an end that is unsaid again": [START, END, ended(delta={}), STOP],
    "an end that does not count": [START, END, ended(usage={}), STOP],
    "an end that counts otherwise": [START, END, ended(usage=[]), STOP],
    "two beginnings": [START, START, *LAST],
    "something before the beginning": [end(), START, *LAST],
    **{
        f"{text!r:.9} for an input": [
            START,
            begin(TOOL_BLOCK),
            delta("input_json_delta", partial_json=text),
            end(),
            *LAST,
        ]
        for text in NO_INPUTS
    },
    **{
        f"{text} for a text": [START, begin(TEXT_BLOCK), delta("text_delta", text=text), end(), *LAST]
        for text in NO_TEXTS
    },
    **{f"{text} to begin with": [START, begin({**TEXT_BLOCK, "text": text}), SAID, end(), *LAST] for text in NO_TEXTS},
}


class TestFolding:
    @pytest.mark.parametrize("pair", KNOWN, ids=named)
    @pytest.mark.parametrize("more", [{}, {"mood": None}], ids=["known", "with nothing"])
    def test_adds_up_what_is_known(self, pair: tuple[Block, Event], more: dict[str, Any]) -> None:
        block, event = pair
        events = [START, begin(block), delta(**event["delta"], **more), end(), *LAST]

        said = SDK.plain(recorded(events).body)

        assert said == SDK.streamed(b"".join(map(wire, events)))
        assert said["content"] != SDK.plain(recorded([START, begin(block), end(), *LAST]).body)["content"]

    @pytest.mark.parametrize("pair", KNOWN, ids=named)
    def test_does_not_pass_over_what_a_delta_says_beside(self, pair: tuple[Block, Event]) -> None:
        block, event = pair
        recording = recorded([START, begin(block), delta(**event["delta"], mood="good"), end(), *LAST])

        assert recording.is_whole
        assert recording.body == b""

    @pytest.mark.parametrize("pair", KNOWN, ids=named)
    def test_does_not_pass_over_a_delta_that_says_nothing(self, pair: tuple[Block, Event]) -> None:
        block, event = pair
        recording = recorded([START, begin(block), delta(event["delta"]["type"]), end(), *LAST])

        assert recording.is_whole
        assert recording.body == b""

    @pytest.mark.parametrize("pair", MISFITS, ids=named)
    def test_adds_no_delta_to_a_block_of_another_kind(self, pair: tuple[Block, Event]) -> None:
        block, event = pair

        assert recorded([START, begin(block), end(), *LAST]).body
        assert not recorded([START, begin(block), event, end(), *LAST]).body

    @pytest.mark.parametrize("kind", UNFOLDABLE)
    def test_knows_the_end_of_what_does_not_add_up(self, kind: str) -> None:
        recording = recorded(UNFOLDABLE[kind])

        assert recording.is_whole
        assert recording.body == b""
        assert recording.message is not None
        assert recording.message["stop_reason"] == "end_turn"
        assert recording.message["usage"].items() >= {"input_tokens": 3, "output_tokens": 9}.items()

    def test_what_is_told_in_the_beginning_may_be_told_again(self) -> None:
        begun = {**START["message"], "usage": {"input_tokens": 3, "output_tokens": 1, "service_tier": "batch"}}
        events = [{**START, "message": begun}, END, ended(usage={"output_tokens": 10, "service_tier": "batch"}), STOP]

        said = SDK.plain(recorded(events).body)

        assert said == SDK.streamed(b"".join(map(wire, events)))
        assert said["usage"] == {"input_tokens": 3, "output_tokens": 10, "service_tier": "batch"}

    def test_takes_a_block_of_an_unknown_kind_that_comes_in_one_piece(self) -> None:
        block = {"type": "sent_in_one_piece", "text": "x", "parts": [{"a": None}]}

        assert json.loads(recorded([START, begin(block), end(), *LAST]).body)["content"] == [block]

    @pytest.mark.parametrize("content", [None, {}, "", [TEXT_BLOCK]], ids=str)
    def test_of_a_stream_that_begins_otherwise_nothing_is_known(self, content: Any) -> None:
        begun = {**START, "message": {**START["message"], "content": content}}

        for events in ([*LAST], [begun, *LAST], [begun, begin(TEXT_BLOCK, 1), end(1), *LAST]):
            recording = recorded(events)
            assert recording.is_whole
            assert recording.message is None
            assert recording.body == b""


class TestUnfolding:
    @pytest.mark.parametrize("step", [None, 1, 3])
    @pytest.mark.parametrize("beta", [False, True], ids=["stable", "beta"])
    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_gives_a_stream_that_comes_to_the_message(self, beta: bool, step: int | None, data: st.DataObject) -> None:
        message = data.draw(messages(beta))
        body = b"".join(map(written, unfolded(message, step)))
        recording = Recording()

        assert recording.feed(body) == body
        plain = SDK.plain(as_json(message), beta)

        assert SDK.streamed(body, beta) == plain
        assert SDK.plain(recording.body, beta) == plain

    @pytest.mark.parametrize(
        ("block", "begun", "deltas"),
        [
            ({**TEXT_BLOCK, "text": "x"}, TEXT_BLOCK, [SAID["delta"]]),
            (TEXT_BLOCK, TEXT_BLOCK, []),
            (
                {"type": "text", "text": "x", "citations": [{"a": 1}, {"b": 2}]},
                {"type": "text", "text": "", "citations": []},
                [
                    SAID["delta"],
                    {"type": "citations_delta", "citation": {"a": 1}},
                    {"type": "citations_delta", "citation": {"b": 2}},
                ],
            ),
            (
                {"type": "thinking", "thinking": "x", "signature": "y"},
                THINKING_BLOCK,
                [{"type": "thinking_delta", "thinking": "x"}, {"type": "signature_delta", "signature": "y"}],
            ),
            (
                {**TOOL_BLOCK, "input": {"❄": 1}},
                TOOL_BLOCK,
                [{"type": "input_json_delta", "partial_json": '{"❄": 1}'}],
            ),
            (TOOL_BLOCK, TOOL_BLOCK, []),
            (
                {"type": "compaction", "content": "x", "encrypted_content": "y", "signature": "z"},
                {"type": "compaction", "content": None, "encrypted_content": None, "signature": "z"},
                [{"type": "compaction_delta", "content": "x", "encrypted_content": "y"}],
            ),
            (LIKE_ALL, LIKE_ALL, []),
        ],
    )
    def test_opens_a_block_empty_and_fills_it(self, block: Block, begun: Block, deltas: list[Block]) -> None:
        _, *events, _, _ = unfolded({"content": [block], "usage": {"output_tokens": 1}})

        filled = [{"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas]
        assert events == [begin(begun), *filled, end()]

    @pytest.mark.parametrize(("step", "parts"), [(None, ["abcde"]), (1, list("abcde")), (2, ["ab", "cd", "e"])])
    def test_cuts_a_text_into_steps(self, step: int | None, parts: list[str]) -> None:
        message = {"content": [{"type": "text", "text": "abcde"}], "usage": {}, "stop_reason": "end_turn"}

        deltas = [event["delta"]["text"] for event in unfolded(message, step) if event["type"] == "content_block_delta"]

        assert deltas == parts

    def test_tells_the_end_at_the_end_only(self) -> None:
        usage = {"input_tokens": 3, "output_tokens": 9}
        message = {
            "id": "msg_1",
            "content": [],
            "stop_reason": "refusal",
            "stop_details": {"type": "x"},
            "usage": usage,
        }

        begun, ended, stopped = unfolded(message)

        assert begun["message"] == {
            "id": "msg_1",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 3, "output_tokens": 1},
        }
        assert ended["delta"] == {"stop_reason": "refusal", "stop_sequence": None, "stop_details": {"type": "x"}}
        assert ended["usage"] == usage
        assert stopped == {"type": "message_stop"}

    @pytest.mark.parametrize("text", ['"\\ud83d"', "[" * 220 + "]" * 220], ids=["half a character", "deep"])
    def test_gives_an_input_that_the_sdk_reads_in_no_delta_in_one_piece(self, text: str) -> None:
        block = {**TOOL_BLOCK, "input": {"a": json.loads(text)}}
        message = {**START["message"], "content": [block], "stop_reason": "tool_use"}
        body, recording = b"".join(map(written, unfolded(message, 3))), Recording()
        recording.feed(body)

        assert json.loads(recording.body)["content"] == [block]
        assert SDK.streamed(body) == SDK.plain(as_json(message))

    def test_passes_half_a_character_on(self) -> None:
        content = [{"type": "text", "text": "\ud83d"}]
        recording = Recording()
        recording.feed(b"".join(map(written, unfolded({"content": content, "usage": {"output_tokens": 1}}))))

        assert json.loads(recording.body)["content"] == content
