from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.core.difference import MISSING, MOST_PARTS, Difference, departures, differences, outline
from aicache.core.fingerprint import Question, Unkeyable, fingerprint
from tests.core.test_fingerprint import QUESTION, RICH, backwards, changed, json_values, places, without


def between(left: Any, right: Any) -> list[Difference]:
    """What makes two bodies differ."""
    return differences(replace(QUESTION, body=left), replace(QUESTION, body=right))


def told(found: list[Difference]) -> list[tuple[str, Any, Any]]:
    return [(difference.path, difference.left, difference.right) for difference in found]


def test_equal_requests_do_not_differ() -> None:
    assert differences(QUESTION, copy.deepcopy(QUESTION)) == []


def test_the_order_of_names_is_no_difference() -> None:
    assert between(RICH, backwards(RICH)) == []


def test_a_changed_leaf_is_named_by_its_path_with_both_values() -> None:
    path = ("messages", 0, "content", 2, "text")

    (found,) = between(RICH, changed(RICH, path, "And now?"))

    assert found.path == "body.messages[0].content[2].text"
    assert (found.left, found.right) == ("Why was I refused a refund?", "And now?")
    assert found.matters
    assert found.why == "in the key"


def test_a_field_that_one_of_them_lacks_is_nothing_there() -> None:
    without_it = without(RICH, ("temperature",))

    assert told(between(RICH, without_it)) == [("body.temperature", 0.5, "(nothing)")]
    assert told(between(without_it, RICH)) == [("body.temperature", "(nothing)", 0.5)]


def test_a_longer_list_shows_what_it_has_more() -> None:
    assert told(between(RICH, changed(RICH, ("stop_sequences",), ["END", "STOP", "HALT"]))) == [
        ("body.stop_sequences[2]", "(nothing)", "HALT")
    ]


def test_a_value_that_says_nothing_is_not_an_absent_one() -> None:
    assert between({"field": str(MISSING)}, {})[0].matters


@pytest.mark.parametrize(("one", "other"), [(1, True), (0, False), (0, ""), (None, ""), ([], {}), ("1", 1), ([], None)])
def test_values_of_another_kind_differ(one: Any, other: Any) -> None:
    assert told(between({"field": one}, {"field": other})) == [("body.field", one, other)]


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (0.0, -0.0), ([1, 2], (1, 2)), ([{"a": (1,)}], ({"a": [1.0]},))])
def test_one_value_in_two_notations_does_not_differ(one: Any, other: Any) -> None:
    assert between({"field": one}, {"field": other}) == []


@pytest.mark.parametrize(
    ("change", "path", "left", "right"),
    [
        ({"locale": "en"}, "locale", "de", "en"),
        ({"variant": 2}, "variant", 1, 2),
        ({"vary": ("free",)}, "vary[0]", "premium", "free"),
        ({"base_url": "https://gateway.example"}, "base_url", "https://api.anthropic.com", "https://gateway.example"),
        ({"path": "/v2/messages"}, "path", "/v1/messages", "/v2/messages"),
        ({"tags": frozenset({"help.article:7"})}, "tags.help.article", "help.article", "(nothing)"),
        ({"query": (("beta", "true"), ("page", "2"))}, "query[1][1]", "1", "2"),
    ],
)
def test_parts_beside_the_body_are_named(change: dict[str, Any], path: str, left: Any, right: Any) -> None:
    found = differences(QUESTION, replace(QUESTION, **change))

    assert told(found) == [(path, left, right)]
    assert found[0].matters


def with_headers(**headers: str) -> Question:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return replace(QUESTION, headers={**QUESTION.headers, **named})


def test_a_beta_is_named_once_though_it_stands_in_a_list() -> None:
    found = differences(QUESTION, with_headers(anthropic_beta="zero,one,two"))

    assert told(found) == [("betas.zero", "(nothing)", "zero")]
    assert found[0].matters


def test_the_api_version_is_named_once() -> None:
    found = differences(QUESTION, with_headers(anthropic_version="2023-06-01"))

    assert told(found) == [("version", "2026-10-21", "2023-06-01")]


def test_betas_in_another_order_do_not_matter() -> None:
    found = differences(QUESTION, with_headers(anthropic_beta="two,one"))

    assert [(difference.path, difference.matters) for difference in found] == [("headers.anthropic-beta", False)]


@pytest.mark.parametrize(
    ("left", "right", "path", "why"),
    [
        ({"stream": True}, {}, "body.stream", "how the answer travels, not what it says"),
        (
            {"metadata": {"user_id": "1"}},
            {"metadata": {"user_id": "2"}},
            "body.metadata.user_id",
            "who asks, for the provider's abuse statistics",
        ),
        (
            {"diagnostics": [1]},
            {"diagnostics": [2]},
            "body.diagnostics[0]",
            "asks for measurements beside the answer",
        ),
        (
            {"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
            {"system": [{"type": "text", "text": "x"}]},
            "body.system[0].cache_control",
            "what the provider charges, not what it answers",
        ),
        (
            {"system": "x"},
            {"system": [{"type": "text", "text": "x"}]},
            "body.system",
            "the same meaning in another form",
        ),
    ],
)
def test_what_is_left_out_of_the_key_is_shown_with_the_reason(left: Any, right: Any, path: str, why: str) -> None:
    (found,) = between(left, right)

    assert (found.path, found.matters, found.why) == (path, False, why)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("X-Api-Key", "a credential"),
        ("traceparent", "trace"),
        ("X-Stainless-Lang", "the SDK about itself: its version, its platform, its retries"),
        ("x-stainless-a.b", "the SDK about itself: its version, its platform, its retries"),
    ],
)
def test_noise_in_the_headers_is_shown_with_the_reason(header: str, why: str) -> None:
    (found,) = differences(QUESTION, with_headers(**{header: "1"}))

    assert (found.path, found.right, found.matters, found.why) == (f"headers.{header.lower()}", "1", False, why)


def test_what_matters_comes_first_and_hides_no_noise() -> None:
    found = between(
        {"stream": True, "stream_options": 1, "system": [{"type": "text", "text": "x", "cache_control": None}]},
        {"stream": False, "stream_options": 2, "system": [{"type": "text", "text": "y"}]},
    )

    assert [(difference.path, difference.matters) for difference in found] == [
        ("body.stream_options", True),
        ("body.system[0].text", True),
        ("body.stream", False),
        ("body.system[0].cache_control", False),
    ]


def test_a_parameter_called_cache_control_matters() -> None:
    path = ("tools", 0, "input_schema", "properties", "cache_control", "type")

    (found,) = between(RICH, changed(RICH, path, "integer"))

    assert found.matters


def test_a_text_in_two_forms_shows_the_text_that_differs() -> None:
    found = between({"system": "x"}, {"system": [{"type": "text", "text": "y"}]})

    assert told(found) == [("body.system[0].text", "x", "y")]


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(Unkeyable):
        between({"field": float("nan")}, {"field": 1})


@settings(max_examples=150, deadline=None)
@given(json_values, json_values)
def test_something_matters_exactly_where_the_keys_differ(one: Any, other: Any) -> None:
    left, right = (replace(QUESTION, body={"field": value, "stream": value}) for value in (one, other))
    found = differences(left, right)

    assert any(difference.matters for difference in found) is (fingerprint(left) != fingerprint(right))
    assert bool(found) is (fingerprint(left) != fingerprint(right))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(places(RICH))), json_values)
def test_one_change_anywhere_is_found_where_it_was_made(path: tuple[str | int, ...], new: Any) -> None:
    other = changed(RICH, path, new)
    found = between(RICH, other)
    spelled = "body" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)

    assert all(difference.path.startswith(spelled) for difference in found)
    same = fingerprint(replace(QUESTION, body=other)) == fingerprint(QUESTION)
    assert any(difference.matters for difference in found) is not same


@pytest.mark.parametrize("empty", [[], {}, "", None])
def test_what_is_there_and_empty_is_a_part_of_its_own(empty: Any) -> None:
    body = {"model": "m", "tools": empty}
    known = outline(replace(QUESTION, body={"model": "m"}), b"salt")
    assert departures(known, replace(QUESTION, body=body), b"salt") == ("body.tools",)


def test_a_long_conversation_is_told_apart_to_its_end() -> None:
    def of(last: str) -> Question:
        messages = [{"role": "user", "content": str(at)} for at in range(2 * MOST_PARTS)]
        return replace(QUESTION, body={"messages": [*messages, {"role": "user", "content": last}]})

    known = outline(of("one"), b"salt")
    assert len(known) == MOST_PARTS + 1
    assert departures(known, of("one"), b"salt") == ()
    assert departures(known, of("another"), b"salt") == ("the rest",)
