from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.core.breakpoints import blocks_of
from aicache.core.policy import Policy
from aicache.core.prefix import Manner, Prefix, Prompt, minimum, tokens_of
from aicache.core.terms import Terms
from aicache.core.usage import Mark, Usage
from aicache.testing.prompt import Prompt as Model
from tests.core.test_breakpoints import BODIES, FIVE_MINUTES, IMAGE, ONE_HOUR, THINKING, TOOL, asking, result, text
from tests.core.test_fingerprint import backwards, json_values

SCOPE = ("https://api.anthropic.com/v1/messages", "workspace 1")
NOBODY: Any = None
MEASURED = Policy("measured")
MARKED = {"cache_control": FIVE_MINUTES}
VARIANTS = st.sampled_from([{}, {}, {"max_tokens": 7}, {"model": "claude-opus-5"}, {"thinking": {}}, {"speed": "fast"}])


def prompt(body: dict[str, Any], scope: tuple[str, ...] = SCOPE, policy: Policy = MEASURED) -> Prompt:
    return Prompt(body, lambda: scope, policy, NOBODY, Manner(set()))


def prefixes(body: dict[str, Any], *scope: str) -> tuple[Prefix, ...]:
    return prompt(body, (*SCOPE, *scope)).prefixes


def digests(body: dict[str, Any], *scope: str) -> list[str]:
    return [prefix.digest for prefix in prefixes(body, *scope)]


def counted(number: int) -> list[dict[str, Any]]:
    return [text(str(at)) for at in range(number)]


BODY = asking(text("1"), text("2", FIVE_MINUTES), system=[text("s")], tools=[TOOL, {**TOOL, "name": "b"}])


class TestThePrefixesOfAPrompt:
    def test_are_those_that_end_at_a_breakpoint_and_those_before_it(self) -> None:
        found = prefixes(asking(text("1", ONE_HOUR), text("2"), text("3", FIVE_MINUTES), text("4"), system="s"))

        assert [prefix.life for prefix in found] == [None, 3600.0, None, 300.0]
        assert len({prefix.digest for prefix in found}) == len({prefix.tokens for prefix in found}) == 4

    def test_are_none_without_a_breakpoint(self) -> None:
        assert prefixes(asking(text("1"), system="s")) == ()
        assert prefixes({}) == ()

    def test_reach_nineteen_blocks_back(self) -> None:
        blocks = counted(40)
        body = asking(*blocks[:4], text("a", FIVE_MINUTES), *blocks[5:29], text("b", ONE_HOUR), *blocks[30:])

        assert [prefix.life for prefix in prefixes(body)] == [*[None] * 4, 300.0, *[None] * 19, 3600.0]

    @pytest.mark.parametrize(("more", "is_found"), [(1, True), (19, True), (20, False), (30, False)])
    def test_hold_what_an_earlier_turn_has_written_up_to_there(self, more: int, is_found: bool) -> None:
        written = prefixes(asking(*counted(5), cache_control=FIVE_MINUTES))[-1]
        later = digests(asking(*counted(5 + more), cache_control=FIVE_MINUTES))

        assert (written.digest in later) is is_found

    def test_are_of_what_goes_out(self) -> None:
        body = asking(text("1"), system="s")
        placing = prompt(body, policy=Policy("placing", auto_prompt_cache=True))

        assert prompt(body).body is body
        assert placing.given is body
        assert placing.body == asking(text("1", FIVE_MINUTES), system=[text("s", FIVE_MINUTES)])
        assert [prefix.life for prefix in placing.prefixes] == [300.0, 300.0]

    @pytest.mark.parametrize("value", [{1, 2}, float("nan"), "\ud800", object()], ids=["set", "nan", "half", "object"])
    def test_are_none_where_the_request_is_no_json(self, value: Any) -> None:
        assert prefixes(asking({**text("1", FIVE_MINUTES), "of_next_year": value})) == ()
        assert prefixes(asking(text("1", FIVE_MINUTES), of_next_year=value)) == ()

    def test_are_none_where_it_is_nested_too_deeply(self) -> None:
        deep: Any = text("1")
        for _ in range(20_000):
            deep = result(deep)

        assert prefixes(asking(deep, cache_control=FIVE_MINUTES)) == ()

    @settings(max_examples=50, deadline=None)
    @given(json_values, json_values, json_values, st.booleans())
    def test_are_some_or_none_whatever_is_asked(self, tools: Any, system: Any, messages: Any, auto: bool) -> None:
        body = {"tools": tools, "system": system, "messages": messages, "cache_control": FIVE_MINUTES}
        found = prompt(body, policy=Policy("p", auto_prompt_cache=auto))

        assert bool(found.prefixes) is any(isinstance(block, dict) for _, block in blocks_of(body))


PARTING = ("model", "thinking", "tool_choice", "output_config", "speed", "workspace_id", "a_field_of_next_year")
NOT_PARTING = ("max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "stream", "metadata", "diagnostics")
Change = Callable[[dict[str, Any]], dict[str, Any]]


def put(**fields: Any) -> Change:
    return lambda body: {**body, **fields}


class TestTheIdentityOfAPrefix:
    @pytest.mark.parametrize(
        "change",
        [
            *(put(**{name: "another"}) for name in PARTING),
            put(tools=BODY["tools"][::-1]),
            put(tools=BODY["tools"][:1]),
            put(tools=[]),
            put(tools=[{**TOOL, "description": "d"}, BODY["tools"][1]]),
            put(tools=[{**TOOL, "input_schema": {"properties": {"cache_control": {}}}}, BODY["tools"][1]]),
            put(system=[text("S")]),
            put(system=[text("s"), text("")]),
            put(system=[{**text("s"), "of_next_year": 1}]),
            put(system=[], messages=[{"role": "user", "content": [text("s"), *BODY["messages"][0]["content"]]}]),
            put(messages=[{**BODY["messages"][0], "role": "assistant"}]),
            put(messages=[{"role": "user", "content": [text("2"), text("1", FIVE_MINUTES)]}]),
            put(messages=[{"role": "user", "content": [text("12", FIVE_MINUTES)]}]),
        ],
    )
    def test_is_another_for_another_prompt(self, change: Change) -> None:
        assert digests(change(BODY))[-1] not in digests(BODY)

    @pytest.mark.parametrize(
        "change",
        [
            *(put(**{name: 7}) for name in NOT_PARTING),
            put(cache_control=ONE_HOUR),
            put(system="s"),
            put(system=[text("s", ONE_HOUR)]),
            put(tools=tuple(BODY["tools"])),
            put(messages=[*BODY["messages"], {"role": "assistant", "content": "3"}]),
            put(messages=[{"role": "user", "content": [text("1", ONE_HOUR), text("2", ONE_HOUR)]}]),
            put(messages=[{"role": "user", "content": "1"}, {"role": "user", "content": [text("2", FIVE_MINUTES)]}]),
            lambda body: {**body, "tools": [{**tool, "cache_control": ONE_HOUR} for tool in body["tools"]]},
            backwards,
        ],
    )
    def test_is_the_same_for_the_same_prompt(self, change: Change) -> None:
        assert digests(change(BODY))[:5] == digests(BODY)

    def test_is_the_same_wherever_the_prompt_goes_on_differently(self) -> None:
        other = put(messages=[{"role": "user", "content": [text("1"), text("3", FIVE_MINUTES)]}])(BODY)

        assert digests(other)[:4] == digests(BODY)[:4]
        assert digests(other)[4] != digests(BODY)[4]

    def test_is_another_where_a_message_says_more_or_stands_elsewhere(self) -> None:
        said = [
            {"messages": [{"role": "system", "content": "x"}]},
            {"messages": [{"role": "system", "content": "x", "clear_at": "next_user_message"}]},
            {"messages": [{"role": "system", "output_config": {"effort": "low"}}, {"role": "system", "content": "x"}]},
            {"system": "x"},
        ]
        found = [digests({"model": "claude-sonnet-5", **body, **MARKED})[-1] for body in said]

        assert len(set(found)) == len(said)

    def test_has_a_root_that_all_that_may_begin_it_share(self) -> None:
        assert prompt(BODY).root == prompt(asking(text("other", FIVE_MINUTES), tools=BODY["tools"])).root != ""
        assert prompt(asking(text("1"))).root == ""

    def test_is_another_in_another_scope(self) -> None:
        scopes = [("a", "b"), ("b", "a"), ("a",), ("ab",), ("a", "b", ""), ()]
        found = [prompt(BODY, scope).prefixes for scope in scopes]

        assert len({prefix.digest for each in found for prefix in each}) == len(scopes) * len(digests(BODY))

    def test_is_the_same_on_other_terms(self) -> None:
        gated = prompt(BODY, policy=Policy("gated", prompt_cache={"settle": 2}, auto_prompt_cache=True))

        assert gated.terms == Terms(settle=2)
        assert gated.prefixes[-1].digest == digests(BODY)[-1]

    @settings(max_examples=100, deadline=None)
    @given(BODIES, BODIES, st.sampled_from(["1", "2"]), VARIANTS, st.data())
    def test_is_the_same_exactly_where_it_is_in_the_model(
        self, one: dict[str, Any], other: dict[str, Any], workspace: str, variant: dict[str, Any], data: st.DataObject
    ) -> None:
        alike = data.draw(st.sets(st.sampled_from(sorted(one))))
        one, other = {**one, **MARKED}, {**other, **{name: one[name] for name in alike}, **variant, **MARKED}
        ours = digests(one, "1"), digests(other, workspace)
        models = Model(one, {"anthropic-workspace-id": "1"}), Model(other, {"anthropic-workspace-id": workspace})
        theirs = [model.identities[: model.breakpoints[-1].position + 1] for model in models]

        assert [len(found) for found in ours] == [len(found) for found in theirs]
        assert [[a == b for b in ours[1]] for a in ours[0]] == [[a == b for b in theirs[1]] for a in theirs[0]]


class TestTheRootOfAPrompt:
    def test_is_that_of_every_prompt_that_begins_alike(self) -> None:
        one, other = prompt(asking(text("1", FIVE_MINUTES))), prompt(asking(text("1"), text("2", FIVE_MINUTES)))

        assert one.prefixes[0] != other.prefixes[1]
        assert one.root == other.root

    def test_is_another_for_another_beginning(self) -> None:
        bodies = [BODY, {**BODY, "model": "claude-opus-5"}, {**BODY, "tools": []}]
        prompts = [prompt(body) for body in bodies]

        assert all(each.prefixes for each in prompts)
        assert len({each.root for each in prompts}) == 3


class TestWhatHasOneLag:
    def test_is_a_model_where_it_is_asked(self) -> None:
        assert prompt(BODY).lag_of == prompt(asking(text("other")), (SCOPE[0], "workspace 2")).lag_of

    def test_is_not_another_model_nor_another_place(self) -> None:
        others = [prompt({**BODY, "model": "claude-opus-5"}), prompt(BODY, ("https://gateway.example", SCOPE[1]))]

        assert len({each.lag_of for each in (*others, prompt(BODY))}) == 3


class TestTheLeastTokens:
    @pytest.mark.parametrize(
        ("model", "least"),
        [
            ("claude-opus-5", 512),
            ("claude-sonnet-5", 1024),
            ("claude-sonnet-4-5", 1024),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", 1024),
            ("claude-sonnet-4-5@20250929", 1024),
            ("arn:aws:bedrock:us-east-1:1:inference-profile/global.anthropic.claude-opus-4-5-20251101-v1:0", 4096),
            ("claude-opus-4-20250514", 1024),
            ("claude-opus-4-5-20251101", 4096),
            ("claude-opus-4-7", 2048),
            ("claude-opus-4-8", 1024),
            ("claude-haiku-4-5@20251001", 4096),
            ("eu.anthropic.claude-haiku-4-5-20251001-v1:0", 4096),
            ("anthropic.claude-3-haiku-20240307-v1:0", 2048),
            ("anthropic.claude-3-5-sonnet-20241022-v2:0", 1024),
            ("claude-of-next-year", 512),
            ("", 512),
        ],
    )
    def test_are_the_models_by_the_longest_name_that_fits(self, model: str, least: int) -> None:
        assert minimum(model) == least

    @pytest.mark.parametrize(
        ("model", "tokens", "worth"),
        [
            ("claude-sonnet-5", 400, False),
            ("claude-sonnet-5", 767, False),
            ("claude-sonnet-5", 768, True),  # an estimate may be wrong by a quarter
            ("claude-haiku-4-5", 3000, False),
            ("claude-haiku-4-5", 4096, True),
            ("claude-of-next-year", 400, True),
        ],
    )
    def test_are_what_a_prefix_needs_to_be_waited_for(self, model: str, tokens: int, worth: bool) -> None:
        body = asking(text("a"), text("b" * 4 * (tokens - 1), FIVE_MINUTES), text("c"), model=model)

        assert prompt(body).prefixes[-1].tokens == tokens
        assert prompt(body).worth_waiting == [1] * worth

    def test_are_needed_at_a_breakpoint(self) -> None:
        long = text("long" * 5000)
        body = asking(long, {**long, **MARKED}, long, {**long, **MARKED})

        assert prompt(body).worth_waiting == [1, 3]
        assert prompt(asking(long, model="claude-sonnet-5")).worth_waiting == []


class TestAnEstimateOfTokens:
    @pytest.mark.parametrize(("said", "tokens"), [("", 0), ("a", 1), ("a" * 4, 1), ("a" * 5, 2), ("日本", 2)])
    def test_is_a_quarter_of_a_texts_bytes(self, said: str, tokens: int) -> None:
        assert tokens_of(text(said), b"as long as it may be") == tokens

    def test_is_a_quarter_of_the_json_of_all_else(self) -> None:
        assert tokens_of(TOOL, b"a" * 41) == 11

    @pytest.mark.parametrize("size", [4, 1_000_000])
    @pytest.mark.parametrize("wrap", [lambda block: block, result], ids=["alone", "in a result"])
    def test_does_not_count_the_bytes_of_an_image(self, size: int, wrap: Callable[..., dict[str, Any]]) -> None:
        image = {**IMAGE, "source": {**IMAGE["source"], "data": "a" * size}}
        (found,) = prefixes(asking(wrap(image), cache_control=FIVE_MINUTES))

        assert 1500 < found.tokens < 1560


class TestWhatIsRememberedOfAnAnswer:
    LONG = text("long" * 3000)

    @pytest.mark.parametrize(
        ("read", "is_written"), [(0, (True, True)), (1000, (True, True)), (3000, (True, False)), (4500, (False, False))]
    )
    def test_is_the_whole_prefix_and_the_others_in_proportion(self, read: int, is_written: tuple[bool, bool]) -> None:
        """Those that it has not read it has written."""
        body = asking(self.LONG, {**self.LONG, **MARKED}, self.LONG, text("1", ONE_HOUR), text("2"))

        assert prompt(body).marks(Usage(read, 4500 - read)) == [
            Mark(3, 3600.0, 4500, is_exact=True, is_written=is_written[0]),
            Mark(1, 300.0, 3000, is_exact=False, is_written=is_written[1]),
        ]

    def test_is_that_one_is_not_kept_that_is_too_short(self) -> None:
        marks = prompt(asking(text("a" * 400, FIVE_MINUTES), self.LONG, text("1", FIVE_MINUTES))).marks(Usage(0, 3101))

        assert [(mark.at, mark.tokens) for mark in marks] == [(2, 3101), (0, 0)]

    def test_is_that_none_was_kept_where_nothing_was_counted(self) -> None:
        marks = prompt(asking(self.LONG, {**self.LONG, **MARKED}, text("b", FIVE_MINUTES))).marks(Usage(0, 0))

        assert [(mark.tokens, mark.is_written) for mark in marks] == [(0, False), (0, False)]

    def test_is_nothing_of_a_prompt_without_breakpoints(self) -> None:
        assert prompt(asking(self.LONG)).marks(Usage(0, 0)) == []
        assert prompt(asking(text(""), THINKING, cache_control=FIVE_MINUTES)).marks(Usage(0, 7))[0].tokens == 7
