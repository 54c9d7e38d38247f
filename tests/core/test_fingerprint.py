from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import pytest
import rfc8785
from anthropic.types.beta import message_create_params
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from typing_extensions import is_typeddict

from aicache.core.fingerprint import Question, Unkeyable, canonical, fingerprint
from tests.core.vectors import FILE, asked, vectors

RICH: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 400,
    "temperature": 0.5,
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "tool_choice": {"type": "auto"},
    "stop_sequences": ["END", "STOP"],
    "system": [{"type": "text", "text": "Be short."}, {"type": "text", "text": "Be kind."}],
    "tools": [
        {
            "name": "look_up",
            "description": "Looks an order up.",
            "input_schema": {
                "type": "object",
                "properties": {
                    "cache_control": {"type": "string"},
                    "metadata": {"type": "object", "properties": {"stream": {"type": "boolean"}}},
                },
                "required": ["metadata"],
            },
            "input_examples": [{"cache_control": "no-store", "metadata": {"stream": True}}],
        }
    ],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                {
                    "type": "document",
                    "title": "Terms",
                    "source": {"type": "content", "content": [{"type": "text", "text": "Within 30 days."}]},
                    "citations": {"enabled": True},
                },
                {"type": "text", "text": "Why was I refused a refund?"},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {
                    "type": "tool_use",
                    "id": "toolu_1",
                    "name": "look_up",
                    "input": {"cache_control": {"type": "ephemeral"}, "metadata": {"stream": True}},
                }
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "is_error": False,
                    "content": [{"type": "text", "text": "order 7"}, {"type": "future", "data": {"cache_control": 1}}],
                }
            ],
        },
    ],
    "a_field_of_next_year": {"deep": [1, {"metadata": None, "stream": 1}]},
}
QUESTION = Question(
    path="/v1/messages",
    base_url="https://api.anthropic.com",
    body=RICH,
    headers={"anthropic-version": "2026-10-21", "anthropic-beta": "one,two", "x-team": "support"},
    query=(("beta", "true"), ("page", "1")),
    locale="de",
    tags=frozenset({"help.article:7", "help.article"}),
    vary=("premium",),
    variant=1,
)


def key(question: Question) -> str:
    return fingerprint(question).key


def key_of(body: Any) -> str:
    return key(replace(QUESTION, body=body))


Path = tuple[str | int, ...]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inside:
        yield (*path, name)
        yield from places(item, (*path, name))


def at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def changed(body: Any, path: Path, new: Any) -> Any:
    body = copy.deepcopy(body)
    at(body, path[:-1])[path[-1]] = new
    return body


def without(body: Any, path: Path) -> Any:
    body = copy.deepcopy(body)
    del at(body, path[:-1])[path[-1]]
    return body


def backwards(value: Any) -> Any:
    """The same JSON with the names of every object in the opposite order."""
    if isinstance(value, dict):
        return {name: backwards(value[name]) for name in reversed(value)}
    return [backwards(item) for item in value] if isinstance(value, list) else value


every_place = pytest.mark.parametrize("path", list(places(RICH)), ids=lambda path: ".".join(map(str, path)))

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner, max_size=4)
    ),
    max_leaves=12,
)


class TestGoldenVectors:
    @pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"])
    def test_the_key_of_a_pinned_request_stays(self, vector: dict[str, Any]) -> None:
        made = fingerprint(asked(vector["question"]))

        assert (made.key, made.lineage) == (vector["key"], vector["lineage"])

    def test_they_are_all_different(self) -> None:
        digests = [vector[name] for vector in vectors() for name in ("key", "lineage")]

        assert len(set(digests)) == len(digests) == 2 * len(vectors())

    @pytest.mark.parametrize("seed", ["0", "1", "4242"])
    def test_another_process_with_another_hash_seed_makes_the_same_keys(self, seed: str) -> None:
        script = (
            "import json; from aicache.core.fingerprint import fingerprint; from tests.core.vectors import *;"
            "print(json.dumps([fingerprint(asked(v['question'])).key for v in vectors()]))"
        )
        told = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=FILE.parents[2],
            capture_output=True,
            text=True,
            check=True,
        )

        assert json.loads(told.stdout) == [vector["key"] for vector in vectors()]


class TestAnyChangeIsAnotherKey:
    def test_a_key_is_a_whole_sha256(self) -> None:
        made = fingerprint(QUESTION)

        assert len(bytes.fromhex(made.key)) == len(bytes.fromhex(made.lineage)) == 32
        assert made.key != made.lineage

    @pytest.mark.parametrize(
        "change",
        [
            {"path": "/v1/complete"},
            {"base_url": "https://gateway.example"},
            {"base_url": "https://api.anthropic.com/proxy"},
            {"base_url": "http://api.anthropic.com"},
            {"locale": "en"},
            {"locale": ""},
            {"tags": frozenset({"help.article:7"})},
            {"tags": frozenset({"help.article:7", "help.article", "help.author:1"})},
            {"tags": frozenset({"help.article:7help.article"})},
            {"tags": frozenset()},
            {"vary": ()},
            {"vary": ("premium", "premium")},
            {"vary": ("pre", "mium")},
            {"variant": 0},
            {"variant": -1},
            {"query": (("beta", "true"), ("page", "2"))},
            {"query": (("beta", "true"),)},
            {"query": (("beta", "true"), ("page", "1"), ("page", "1"))},
            {"query": (("beta", "true"), ("page", "1"), ("new", ""))},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_of_a_part_beside_the_body(self, change: dict[str, Any]) -> None:
        assert key(replace(QUESTION, **change)) != key(QUESTION)

    @pytest.mark.parametrize(
        "change",
        [
            {"anthropic-version": "2023-06-01"},
            {"anthropic-beta": "one"},
            {"anthropic-beta": "one,two,three"},
            {"anthropic-beta": ""},
            {"anthropic-of-next-year": "1"},
            {"anthropic-workspace-id": "wrkspc_1"},
            {"anthropic-user-profile-id": "profile_1"},
            {"x-team": "sales"},
            {"x-unheard-of": ""},
            {"x-stainles": "not quite"},
        ],
        ids=str,
    )
    def test_of_a_header(self, change: dict[str, str]) -> None:
        assert key(replace(QUESTION, headers={**QUESTION.headers, **change})) != key(QUESTION)

    def test_of_a_header_taken_away(self) -> None:
        keys = {key(replace(QUESTION, headers=without(QUESTION.headers, (name,)))) for name in QUESTION.headers}

        assert len(keys | {key(QUESTION)}) == len(QUESTION.headers) + 1

    @every_place
    def test_of_what_stands_anywhere_in_the_body(self, path: Path) -> None:
        for new in ("something else", None, [], 17, {"of": "another kind"}):
            if at(RICH, path) != new:
                assert key_of(changed(RICH, path, new)) != key(QUESTION)

    @every_place
    def test_of_something_taken_away_from_the_body(self, path: Path) -> None:
        assert key_of(without(RICH, path)) != key(QUESTION)

    @pytest.mark.parametrize(
        "path", [(), *(path for path in places(RICH) if isinstance(at(RICH, path), dict))], ids=str
    )
    def test_of_an_unknown_field_put_into_any_object_of_the_body(self, path: Path) -> None:
        assert key_of(changed(RICH, (*path, "unheard_of"), None)) != key(QUESTION)

    @pytest.mark.parametrize(
        "path", [path for path in places(RICH) if isinstance(at(RICH, path), list) and len(at(RICH, path)) > 1], ids=str
    )
    def test_of_the_order_of_any_list(self, path: Path) -> None:
        assert key_of(changed(RICH, path, at(RICH, path)[::-1])) != key(QUESTION)

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_of_any_place_in_any_unknown_field(self, data: st.DataObject) -> None:
        body = {"unheard_of": data.draw(json_values)}
        path = data.draw(st.sampled_from(list(places(body))))
        other = changed(body, path, data.draw(json_values))
        assume(rfc8785.dumps(other) != rfc8785.dumps(body))

        assert key_of(other) != key_of(body)

    @settings(max_examples=100, deadline=None)
    @given(json_values, json_values)
    def test_of_one_json_value_for_another(self, one: Any, other: Any) -> None:
        same = rfc8785.dumps(one) == rfc8785.dumps(other)

        assert (key_of({"field": one}) == key_of({"field": other})) is same

    @pytest.mark.parametrize("name", ["cache_control", "metadata", "stream", "diagnostics"])
    @pytest.mark.parametrize(
        "place",
        [
            ("tools", 0, "input_schema"),
            ("tools", 0, "input_schema", "properties"),
            ("tools", 0, "input_examples", 0),
            ("messages", 1, "content", 0, "input"),
            ("messages", 1, "content", 0, "input", "metadata"),
            ("messages", 2, "content", 0, "content", 1, "data"),
            ("thinking",),
            ("a_field_of_next_year", "deep", 1),
        ],
        ids=str,
    )
    def test_of_what_is_only_called_like_noise(self, name: str, place: Path) -> None:
        one, another = (changed(RICH, (*place, name), value) for value in ("one", "another"))

        assert len({key_of(one), key_of(another), key_of(without(one, (*place, name)))}) == 3

    def test_of_a_marker_in_a_block_that_is_not_known_to_hold_blocks(self) -> None:
        def body(marker: dict[str, Any]) -> dict[str, Any]:
            block = {"type": "of_next_year", "content": [{"type": "text", "text": "x", **marker}]}
            return {"messages": [{"role": "user", "content": [block]}]}

        assert key_of(body({"cache_control": {"type": "ephemeral"}})) != key_of(body({}))

    @settings(max_examples=50, deadline=None)
    @given(st.integers(2**53, 2**80), st.integers(1, 3))
    def test_of_an_integer_that_a_double_cannot_tell_apart(self, number: int, step: int) -> None:
        one, other = ({"maximum": value, "größe": 0.5} for value in (number, number + step))

        assert key_of(one) != key_of(other)
        assert key_of({"n": -number}) != key_of({"n": -number - step})
        assert key_of({"n": number}) not in (key_of({"n": str(number)}), key_of({"n": float(number)}))
        assert key_of(one) == key_of(backwards(one))


class TestWhatCannotChangeTheAnswerIsNotInTheKey:
    def test_the_order_of_names(self) -> None:
        turned = replace(QUESTION, body=backwards(RICH), headers=backwards(dict(QUESTION.headers)))

        assert list(turned.body) == list(RICH)[::-1]
        assert key(turned) == key(QUESTION)

    @settings(max_examples=100, deadline=None)
    @given(json_values)
    def test_the_order_of_names_in_any_json(self, value: Any) -> None:
        assert key_of({"field": value}) == key_of({"field": backwards(value)})

    def test_the_order_of_betas_tags_and_query_parameters(self) -> None:
        headers = {**QUESTION.headers, "anthropic-beta": " two , one,two,"}
        tags = frozenset(sorted(QUESTION.tags, reverse=True))

        assert key(replace(QUESTION, headers=headers, tags=tags, query=QUESTION.query[::-1])) == key(QUESTION)

    def test_the_case_of_a_headers_name(self) -> None:
        shouted = {name.upper(): value for name, value in QUESTION.headers.items()}

        assert key(replace(QUESTION, headers=shouted)) == key(QUESTION)

    def test_a_slash_at_the_end_of_the_base_url(self) -> None:
        assert key(replace(QUESTION, base_url=f"{QUESTION.base_url}/")) == key(QUESTION)

    def test_whether_a_list_is_a_tuple(self) -> None:
        assert key_of({**RICH, "stop_sequences": ("END", "STOP"), "tools": tuple(RICH["tools"])}) == key(QUESTION)

    @pytest.mark.parametrize(
        "noise",
        [
            {"stream": True},
            {"stream": False},
            {"metadata": {"user_id": "7"}},
            {"diagnostics": {"previous_message_id": "msg_1"}},
            {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
            {"cache_control": None},
        ],
        ids=str,
    )
    def test_noise_at_the_top_of_the_body(self, noise: dict[str, Any]) -> None:
        assert key_of({**RICH, **noise}) == key(QUESTION)

    @pytest.mark.parametrize(
        "header",
        [
            "Authorization",
            "X-Api-Key",
            "Proxy-Authorization",
            "Cookie",
            "traceparent",
            "tracestate",
            "baggage",
            "b3",
            "X-B3-TraceId",
            "sentry-trace",
            "X-Datadog-Trace-Id",
            "X-Amzn-Trace-Id",
            "X-Cloud-Trace-Context",
            "x-request-id",
            "X-Stainless-Retry-Count",
            "x-stainless-of-next-year",
            "User-Agent",
            "Idempotency-Key",
            "Accept-Encoding",
        ],
    )
    def test_a_credential_a_trace_or_the_sdk_about_itself(self, header: str) -> None:
        keys = {key(replace(QUESTION, headers={**QUESTION.headers, header: value})) for value in ("1", "2", "")}

        assert keys == {key(QUESTION)}

    def test_whether_one_text_is_written_as_a_block(self) -> None:
        def body(write: Any) -> dict[str, Any]:
            result = {"type": "tool_result", "tool_use_id": "t", "content": write("found")}
            return {
                "system": write("Be short."),
                "messages": [{"role": "user", "content": write("Hi")}, {"role": "user", "content": [result]}],
            }

        def block(text: str) -> list[dict[str, str]]:
            return [{"type": "text", "text": text}]

        def marked(text: str) -> list[dict[str, Any]]:
            return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]

        assert key_of(body(str)) == key_of(body(block)) == key_of(body(marked))

    @pytest.mark.parametrize(
        "other",
        [
            [{"type": "text", "text": "Hi"}, {"type": "text", "text": ""}],
            [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}],
            [{"type": "text", "text": "Hi", "citations": []}],
            [],
            None,
            "hi",
        ],
        ids=str,
    )
    def test_but_only_one_and_only_that_text(self, other: Any) -> None:
        def asking(content: Any) -> str:
            return key_of({"messages": [{"role": "user", "content": content}]})

        assert asking(other) != asking("Hi")

    def test_a_string_that_looks_like_a_block_is_none(self) -> None:
        assert key_of({"system": '[{"type":"text","text":"x"}]'}) != key_of({"system": "x"})


# Every place where the SDK's own types say that a request may hold a cache_control.
Pair = tuple[Any, Any]


def marked(kind: Any, around: tuple[Any, ...] = ()) -> Iterator[Pair]:
    """Values of a type of the SDK with one marker somewhere inside, each with the same value without it."""
    origin = get_origin(kind)
    if origin in (Required, NotRequired) or origin is Union:
        for inner in get_args(kind):
            yield from marked(inner, around)
    elif is_typeddict(kind):
        if kind in around:
            return
        base = least(kind)
        for name, inner in hints(kind).items():
            if name == "cache_control":
                yield {**base, name: {"type": "ephemeral", "ttl": "1h"}}, base
                continue
            for with_it, without_it in marked(inner, (*around, kind)):
                yield {**base, name: with_it}, {**base, name: without_it}
    elif origin is not None and origin is not Literal and origin is not dict and get_args(kind):
        for with_it, without_it in marked(get_args(kind)[0], around):
            yield [with_it], [without_it]


@cache
def hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def least(kind: Any) -> Any:
    """The smallest value of a type of the SDK."""
    origin = get_origin(kind)
    if origin in (Required, NotRequired) or origin is Union:
        return least(get_args(kind)[0])
    if origin is Literal:
        return get_args(kind)[0]
    if is_typeddict(kind):
        return {name: least(inner) for name, inner in hints(kind).items() if get_origin(inner) is Required}
    if origin is dict or kind is object:
        return {}
    return [] if origin is not None else "x"


MARKED = list(marked(message_create_params.MessageCreateParamsNonStreaming))


def test_the_sdk_names_the_places_that_are_known_here() -> None:
    shown = "".join(json.dumps(with_it) for with_it, _ in MARKED)

    for known in ("tool_result", "document", "search_result", "web_fetch_result", "tool_addition", "bash_20250124"):
        assert f'"{known}"' in shown
    assert len(MARKED) > 80


def test_no_marker_is_in_the_key_wherever_the_api_reads_it() -> None:
    missed = [with_it for with_it, without_it in MARKED if key_of(with_it) != key_of(without_it)]

    assert missed == []


class TestCanonicalJson:
    @settings(max_examples=300, deadline=None)
    @given(json_values)
    def test_any_value_is_written_as_rfc_8785_says(self, value: Any) -> None:
        assert canonical(value) == rfc8785.dumps(value)

    @settings(max_examples=300, deadline=None)
    @given(plain_values)
    def test_what_the_c_encoder_writes_is_the_same_bytes(self, value: Any) -> None:
        assert canonical(value) == rfc8785.dumps(value)

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"\U0001f600": 1, "\ufb33": 2, "a": 3}, '{"a":3,"\U0001f600":1,"\ufb33":2}'),  # by UTF-16, not code points
            ('\u0000\u001f\u007f\u2028"\\/\b\f\n\r\t', '"\\u0000\\u001f\u007f\u2028\\"\\\\/\\b\\f\\n\\r\\t"'),
            ([1.0, 1e21, 1e-7, -0.0, 0.1, 1e20], "[1,1e+21,1e-7,0,0.1,100000000000000000000]"),
            ([True, 1, False, 0, None, ""], '[true,1,false,0,null,""]'),
        ],
    )
    def test_the_fine_print_of_the_rfc(self, value: Any, text: str) -> None:
        assert canonical(value) == text.encode()

    @settings(max_examples=50, deadline=None)
    @given(json_values, st.integers(2**53, 2**70))
    def test_no_text_with_exact_integers_is_the_text_of_another_value(self, value: Any, number: int) -> None:
        assert canonical([value, number]) != canonical([value, str(number)])
        with pytest.raises(ValueError, match="Expecting value"):
            json.loads(canonical([value, number]))

    @pytest.mark.parametrize(
        "value",
        [
            float("nan"),
            float("inf"),
            "\ud800",
            {"\udfff": 1},
            {1, 2},
            b"bytes",
            object(),
            {7: "a name that is no text"},
            [2**60, float("nan")],
            [2**60, "\ud800"],
            [2**60, object()],
        ],
    )
    def test_what_is_no_json_has_no_key(self, value: Any) -> None:
        with pytest.raises(Unkeyable, match=r"\w"):
            key_of({"field": value})
        with pytest.raises(Unkeyable):
            key_of({"messages": [{"role": "user", "content": value}]})

    def test_what_holds_itself_has_no_key(self) -> None:
        endless: dict[str, Any] = {"type": "tool_result"}
        endless["content"] = [endless]

        with pytest.raises(Unkeyable, match="too deeply"):
            key_of({"messages": [{"role": "user", "content": [endless]}]})

    @pytest.mark.parametrize("depth", [60, 900, 3000, 100_000])
    def test_deep_nesting_has_a_key_or_none_but_breaks_nothing(self, depth: int) -> None:
        deep: Any = "x"
        blocks: Any = "x"
        for _ in range(depth):
            deep = [deep]
            blocks = [{"type": "tool_result", "content": blocks}]
        for body in ({"field": deep}, {"messages": [{"role": "user", "content": blocks}]}):
            if depth == 60:
                assert key_of(body) == key_of(body)
            elif depth > 1000:
                with pytest.raises(Unkeyable, match="too deeply"):
                    key_of(body)


class TestTheLineage:
    def test_is_the_same_whatever_the_tags(self) -> None:
        lineages = {fingerprint(replace(QUESTION, tags=tags)).lineage for tags in (frozenset(), frozenset({"a:1"}))}

        assert lineages == {fingerprint(QUESTION).lineage}

    @pytest.mark.parametrize(
        "change", [{"locale": "en"}, {"vary": ()}, {"variant": 2}, {"path": "/x"}, {"body": {}}, {"query": ()}], ids=str
    )
    def test_is_another_for_another_question(self, change: dict[str, Any]) -> None:
        assert fingerprint(replace(QUESTION, **change)).lineage != fingerprint(QUESTION).lineage


def test_the_question_is_left_as_it_was() -> None:
    body = {**copy.deepcopy(RICH), "metadata": {"user_id": "7"}}
    body["messages"][0]["content"][0]["cache_control"] = {"type": "ephemeral"}
    before = copy.deepcopy(body)

    key_of(body)

    assert body == before
