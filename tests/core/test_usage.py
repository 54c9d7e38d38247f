from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.core.usage import Living, Usage, miss_reason, redundant, was_read

TOKENS = st.integers(0, 20_000)


def living(tokens: int, *, is_exact: bool = True) -> Living:
    return Living(at=0, age=0.0, tokens=tokens, is_exact=is_exact, is_read=False)


def overlap(usage: Usage, tokens: int) -> int:
    """Of what was written, which is what follows that which was read, so much lies within the first ``tokens``."""
    return max(0, min(usage.total, tokens) - usage.read)


class TestTheUsageOfAnAnswer:
    def test_is_what_upstream_counted(self) -> None:
        usage = Usage.of({"usage": {"cache_read_input_tokens": 7, "cache_creation_input_tokens": 5, "input_tokens": 3}})

        assert usage == Usage(read=7, written=5)
        assert usage.total == 12

    @pytest.mark.parametrize("message", [None, "", [], 5, {}, {"usage": None}, {"usage": []}, {"usage": 12}], ids=repr)
    def test_is_none_where_the_message_does_not_say(self, message: Any) -> None:
        assert Usage.of(message) is None

    @pytest.mark.parametrize("count", [None, True, -3, 1.5, "12", [], {}], ids=repr)
    def test_takes_for_none_at_all_what_is_no_count(self, count: Any) -> None:
        assert Usage.of({"usage": {"cache_read_input_tokens": count, "cache_creation_input_tokens": 4}}) == Usage(0, 4)
        assert Usage.of({"usage": {"cache_read_input_tokens": 4, "cache_creation_input_tokens": count}}) == Usage(4, 0)


class TestWhatWasPaidTwice:
    @pytest.mark.parametrize(
        ("read", "written", "tokens", "again"),
        [
            (0, 1215, 1215, 1215),  # as reported: both wrote it
            (1215, 0, 1215, 0),
            (0, 1500, 1000, 1000),  # what follows the prefix is new
            (0, 800, 1000, 800),  # nobody pays twice for more than was paid
            (400, 600, 1000, 600),  # a shorter one was read
            (400, 900, 1000, 600),
            (1000, 500, 1000, 0),  # the conversation has grown
            (1300, 500, 1000, 0),
            (0, 0, 1000, 0),  # nothing was kept at all
            (0, 500, 0, 0),  # it is too short to be kept
        ],
    )
    def test_is_what_was_written_of_a_prefix_that_lived(self, read: int, written: int, tokens: int, again: int) -> None:
        assert redundant(Usage(read, written), living(tokens)) == again

    def test_is_nothing_where_no_prefix_lived(self) -> None:
        assert redundant(Usage(0, 5000), None) == 0

    @pytest.mark.parametrize(("read", "again"), [(949, 1051), (950, 0), (960, 0), (1000, 0)])
    def test_allows_for_counts_that_differ_a_little(self, read: int, again: int) -> None:
        found = redundant(Usage(read, 2000 - read), living(1000))

        assert found == min(again, 1000 - read)
        assert was_read(Usage(read, 0), living(1000)) is (again == 0)

    @pytest.mark.parametrize(("read", "again"), [(0, 1000), (1, 0), (400, 0), (1200, 0)])
    def test_is_nothing_where_anything_was_read_of_a_prefix_whose_length_is_a_guess(
        self, read: int, again: int
    ) -> None:
        assert redundant(Usage(read, 3000), living(1000, is_exact=False)) == again
        assert was_read(Usage(read, 0), living(1000, is_exact=False)) is (again == 0)

    @settings(max_examples=200, deadline=None)
    @given(TOKENS, TOKENS, TOKENS, st.booleans())
    def test_is_never_more_than_what_is_certain(self, read: int, written: int, tokens: int, exact: bool) -> None:
        usage = Usage(read, written)

        assert 0 <= redundant(usage, living(tokens, is_exact=exact)) <= overlap(usage, tokens)

    @settings(max_examples=200, deadline=None)
    @given(TOKENS, TOKENS, TOKENS)
    def test_is_all_of_that_where_clearly_less_than_the_prefix_was_read(
        self, read: int, written: int, tokens: int
    ) -> None:
        usage = Usage(read, written)
        found = redundant(usage, living(tokens))

        assert found in (0, overlap(usage, tokens))
        if read < 0.94 * tokens:
            assert found == overlap(usage, tokens)
            assert not was_read(usage, living(tokens))


class TestTheProvidersReason:
    def test_is_the_type_that_it_gives(self) -> None:
        message = {"diagnostics": {"cache_miss_reason": {"type": "system_changed", "cache_missed_input_tokens": 7}}}

        assert miss_reason(message) == "system_changed"

    @pytest.mark.parametrize(
        "message",
        [
            None,
            [],
            "x",
            {},
            {"diagnostics": None},
            {"diagnostics": "x"},
            {"diagnostics": {"cache_miss_reason": None}},
            {"diagnostics": {"cache_miss_reason": "x"}},
            {"diagnostics": {"cache_miss_reason": {}}},
            {"diagnostics": {"cache_miss_reason": {"type": 5}}},
        ],
        ids=str,
    )
    def test_is_empty_where_it_gives_none(self, message: Any) -> None:
        assert miss_reason(message) == ""
