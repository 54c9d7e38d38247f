from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Any

import pytest

from aicache.core.policy import Policy, policies
from aicache.core.terms import MEASURED, Terms, terms_of

SETTLES = '"adaptive", "off", or seconds from 0 to 3600'
WAITS = "seconds from 0 to 3600"
VALUES = "USD per second, from 0 to 1e+06"
LEADERS = '"stream" or "plain" or "prewarm"'
KEYS = "settle, max_wait, latency_value, leader"


class TestThePromptCacheOfAPolicy:
    def test_is_measured_by_default_and_nobody_waits(self) -> None:
        policy = Policy("mine")

        assert policy.prompt_cache == "measure"
        assert policy.terms == MEASURED
        assert not policy.terms.is_gated

    def test_has_documented_defaults_for_what_a_dict_does_not_say(self) -> None:
        terms = Policy("mine", prompt_cache={"settle": "adaptive"}).terms

        assert (terms.settle, terms.max_wait, terms.latency_value, terms.leader) == ("adaptive", 10.0, 0, "stream")

    @pytest.mark.parametrize(
        "given",
        [
            {"settle": "adaptive"},
            {"settle": "off"},
            {"settle": 0},
            {"settle": 2.5},
            {"settle": 3600},
            {"settle": 1, "max_wait": 0},
            {"settle": 1, "max_wait": 3600.0},
            {"settle": 1, "latency_value": 0},
            {"settle": 1, "latency_value": 1e6},
            {"settle": 1, "leader": "stream"},
            {"settle": 1, "leader": "plain"},
            {"settle": "adaptive", "max_wait": 3, "latency_value": 0.0005, "leader": "prewarm"},
        ],
        ids=str,
    )
    def test_takes_what_it_says_that_it_accepts(self, given: dict[str, Any]) -> None:
        terms = Policy("mine", prompt_cache=given).terms

        assert {name: getattr(terms, name) for name in given} == given

    def test_may_be_any_mapping(self) -> None:
        assert Policy("mine", prompt_cache=MappingProxyType({"settle": 2})).terms == Terms(settle=2)

    @pytest.mark.parametrize(
        ("given", "is_gated"),
        [
            ("measure", False),
            ({"settle": "off"}, False),
            ({"settle": "off", "max_wait": 5}, False),
            ({"settle": "adaptive"}, True),
            ({"settle": 2}, True),
            ({"settle": 0}, True),
        ],
        ids=str,
    )
    def test_is_a_gate_unless_it_is_off(self, given: Any, is_gated: bool) -> None:
        assert Policy("mine", prompt_cache=given).terms.is_gated is is_gated

    @pytest.mark.parametrize(
        ("given", "name", "value", "accepted"),
        [
            ("measured", "prompt_cache", "measured", f'"measure" or a dict of {KEYS}'),
            ("adaptive", "prompt_cache", "adaptive", f'"measure" or a dict of {KEYS}'),
            (None, "prompt_cache", None, f'"measure" or a dict of {KEYS}'),
            (True, "prompt_cache", True, f'"measure" or a dict of {KEYS}'),
            (2.0, "prompt_cache", 2.0, f'"measure" or a dict of {KEYS}'),
            ([("settle", 1)], "prompt_cache", [("settle", 1)], f'"measure" or a dict of {KEYS}'),
            ({"settle": "adaptiv"}, "prompt_cache.settle", "adaptiv", SETTLES),
            ({"settle": "2"}, "prompt_cache.settle", "2", SETTLES),
            ({"settle": None}, "prompt_cache.settle", None, SETTLES),
            ({"settle": True}, "prompt_cache.settle", True, SETTLES),
            ({"settle": False}, "prompt_cache.settle", False, SETTLES),
            ({"settle": []}, "prompt_cache.settle", [], SETTLES),
            ({"settle": -0.1}, "prompt_cache.settle", -0.1, SETTLES),
            ({"settle": 3600.5}, "prompt_cache.settle", 3600.5, SETTLES),
            ({"settle": float("nan")}, "prompt_cache.settle", float("nan"), SETTLES),
            ({"settle": float("inf")}, "prompt_cache.settle", float("inf"), SETTLES),
            ({"settle": 1, "max_wait": -1}, "prompt_cache.max_wait", -1, WAITS),
            ({"settle": 1, "max_wait": 3601}, "prompt_cache.max_wait", 3601, WAITS),
            ({"settle": 1, "max_wait": None}, "prompt_cache.max_wait", None, WAITS),
            ({"settle": 1, "max_wait": "adaptive"}, "prompt_cache.max_wait", "adaptive", WAITS),
            ({"settle": 1, "max_wait": True}, "prompt_cache.max_wait", True, WAITS),
            ({"settle": "off", "max_wait": float("inf")}, "prompt_cache.max_wait", float("inf"), WAITS),
            ({"settle": 1, "latency_value": -0.01}, "prompt_cache.latency_value", -0.01, VALUES),
            ({"settle": 1, "latency_value": float("inf")}, "prompt_cache.latency_value", float("inf"), VALUES),
            ({"settle": 1, "latency_value": float("nan")}, "prompt_cache.latency_value", float("nan"), VALUES),
            ({"settle": 1, "latency_value": "0.1"}, "prompt_cache.latency_value", "0.1", VALUES),
            ({"settle": 1, "leader": "first"}, "prompt_cache.leader", "first", LEADERS),
            ({"settle": 1, "leader": None}, "prompt_cache.leader", None, LEADERS),
            ({"settle": 1, "leader": ["stream"]}, "prompt_cache.leader", ["stream"], LEADERS),
        ],
        ids=str,
    )
    def test_refuses_what_it_cannot_use_by_policy_key_value_and_what_it_accepts(
        self, given: Any, name: str, value: Any, accepted: str
    ) -> None:
        with pytest.raises(ValueError, match="policy 'mine'") as caught:
            Policy("mine", prompt_cache=given)

        assert str(caught.value) == f"policy 'mine': {name} is {value!r}; accepted: {accepted}"

    @pytest.mark.parametrize("key", ["setle", "Settle", "name", "max wait", 5, None])
    def test_names_a_key_that_it_does_not_know(self, key: Any) -> None:
        with pytest.raises(ValueError, match="policy 'mine'") as caught:
            Policy("mine", prompt_cache={"settle": 1, key: 1})

        assert str(caught.value) == f"policy 'mine': prompt_cache has the unknown key {key!r}; accepted: {KEYS}"

    @pytest.mark.parametrize("given", [{}, {"max_wait": 5}], ids=str)
    def test_wants_to_be_told_how_long_to_wait(self, given: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="policy 'mine'") as caught:
            Policy("mine", prompt_cache=given)

        assert 'without the key "settle"' in str(caught.value)
        assert SETTLES in str(caught.value)

    def test_leaves_the_policy_one_that_can_be_hashed_and_compared(self) -> None:
        one, same = (Policy("mine", prompt_cache={"settle": 2}) for _ in range(2))

        assert one == same
        assert hash(one) == hash(same)
        assert one != Policy("mine", prompt_cache={"settle": 3})

    def test_is_the_defaults_in_every_policy_that_does_not_say_it(self) -> None:
        found = policies({"default": {"prompt_cache": {"settle": 2}}, "mine": {"prompt_cache": "measure"}})

        assert found["chat"].terms == Terms(settle=2)
        assert found["mine"].terms == MEASURED

    def test_is_refused_in_a_site_s_setting_too(self) -> None:
        with pytest.raises(ValueError, match=r"policy 'mine': prompt_cache\.leader is 'me'"):
            policies({"mine": {"prompt_cache": {"settle": 2, "leader": "me"}}})


class TestTerms:
    def test_say_what_is_wrong_without_a_policy_too(self) -> None:
        with pytest.raises(ValueError, match=r"^prompt_cache\.settle is -1; accepted: "):
            terms_of({"settle": -1})

    def test_are_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            terms_of("measure").settle = 1  # type: ignore[misc]


class TestTheBreakpointsOfAPolicy:
    def test_are_the_callers_own_unless_it_says_otherwise(self) -> None:
        assert Policy("mine").auto_prompt_cache is False
        assert Policy("mine", auto_prompt_cache=True).auto_prompt_cache is True

    def test_do_not_depend_on_a_gate(self) -> None:
        assert Policy("mine", auto_prompt_cache=True).terms == MEASURED

    @pytest.mark.parametrize("given", [1, 0, "yes", None, {}], ids=repr)
    def test_are_switched_by_true_and_false_only(self, given: Any) -> None:
        with pytest.raises(ValueError, match="policy 'mine'") as caught:
            Policy("mine", auto_prompt_cache=given)

        assert str(caught.value) == f"policy 'mine': auto_prompt_cache is {given!r}; accepted: True or False"
