from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.core.usage import Living, Usage, miss_reason, redundant, was_read

TOKENS = st.integers(0, 20_000)
# Longer and longer, and no two so alike that a count might be of either.
LENGTHS = st.lists(st.integers(0, 12), min_size=1, max_size=4, unique=True).map(
    lambda powers: [round(1000 * 1.3**power) for power in sorted(powers)]
)


def living(tokens: int, *, is_exact: bool = True, is_written: bool = True) -> Living:
    return Living(at=0, age=0.0, tokens=tokens, is_exact=is_exact, is_read=False, is_written=is_written)


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
        assert redundant(Usage(read, written), [living(tokens)]) == again

    def test_is_nothing_where_no_prefix_lived(self) -> None:
        assert redundant(Usage(0, 5000), []) == redundant(Usage(3000, 5000), []) == 0

    @pytest.mark.parametrize(("read", "again"), [(949, 51), (950, 0), (960, 0), (1000, 0)])
    def test_allows_for_counts_that_differ_a_little(self, read: int, again: int) -> None:
        assert redundant(Usage(read, 2000 - read), [living(1000)]) == again
        assert was_read(Usage(read, 0), living(1000)) is (again == 0)

    @pytest.mark.parametrize(("read", "again"), [(0, 1000), (1, 0), (400, 0), (1200, 0)])
    def test_is_nothing_where_anything_was_read_of_a_prefix_whose_length_is_a_guess(
        self, read: int, again: int
    ) -> None:
        assert redundant(Usage(read, 3000), [living(1000, is_exact=False)]) == again
        assert was_read(Usage(read, 0), living(1000, is_exact=False)) is (again == 0)

    @pytest.mark.parametrize(
        ("read", "written", "again"),
        [
            (0, 5000, 4000),
            (0, 1500, 1500),
            (1000, 4000, 3000),
            (1020, 3980, 2980),
            (2000, 3000, 2000),
            (1980, 3020, 2020),
            (4000, 1000, 0),
            (3900, 1100, 0),
            (0, 0, 0),
        ],
    )
    def test_is_what_was_written_of_the_longest_that_lived(self, read: int, written: int, again: int) -> None:
        assert redundant(Usage(read, written), [living(1000), living(2000), living(4000)]) == again

    @pytest.mark.parametrize(
        ("written", "again"),
        [((), 0), ((0,), 1000), ((1,), 1000), ((2,), 2000), ((0, 1), 2000), ((0, 2), 3000), ((0, 1, 2), 4000)],
    )
    def test_is_not_what_nobody_has_said_to_have_written(self, written: tuple[int, ...], again: int) -> None:
        lived = [living(tokens, is_written=at in written) for at, tokens in enumerate((1000, 2000, 4000))]

        assert redundant(Usage(0, 9000), lived) == again

    def test_is_what_follows_the_prefix_that_was_read_though_its_length_was_a_guess(self) -> None:
        lived = [living(1000, is_exact=False), living(4000)]

        assert redundant(Usage(1300, 3700), lived) == 2700
        assert redundant(Usage(700, 4300), lived) == 3300

    @settings(max_examples=100, deadline=None)
    @given(TOKENS, TOKENS, st.lists(st.builds(living, TOKENS, is_exact=st.booleans(), is_written=st.booleans())))
    def test_is_never_more_than_was_written_of_what_lived(self, read: int, written: int, lived: list[Living]) -> None:
        usage = Usage(read, written)
        longest = max((each.tokens for each in lived if each.is_written), default=0)

        assert 0 <= redundant(usage, lived) <= overlap(usage, longest)

    @settings(max_examples=100, deadline=None)
    @given(LENGTHS, TOKENS, st.data())
    def test_is_each_token_that_others_have_written_and_this_one_again(
        self, lengths: list[int], written: int, data: st.DataObject
    ) -> None:
        usage = Usage(data.draw(st.sampled_from([0, *lengths])), written)
        told = [data.draw(st.booleans()) for _ in lengths]
        lived = [living(tokens, is_written=said) for tokens, said in zip(lengths, told, strict=True)]
        parts = zip([0, *lengths], lengths, told, strict=False)
        others = sum(end - start for start, end, said in parts if said and start >= usage.read)

        assert redundant(usage, lived) == min(others, written)


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


class TestWhatIsAGuess:
    def test_is_no_more_than_what_is_known_of_a_longer_prefix(self) -> None:
        lived = [Living(0, 0, 5000, False, False), Living(1, 0, 3000, True, False)]
        assert redundant(Usage(0, 6000), lived) == 3000

    def test_was_read_where_more_was_read_than_is_known_of_a_shorter_one(self) -> None:
        lived = [Living(0, 0, 1000, True, False), Living(1, 0, 3000, False, False)]
        assert redundant(Usage(1900, 2000), lived) == 0
        assert redundant(Usage(1000, 2900), lived) == 2000
