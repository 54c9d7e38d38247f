from __future__ import annotations

import json
import os
import struct
import tracemalloc
import zlib
from decimal import Decimal
from itertools import product
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.core.lineage import Lineage
from aicache.core.operations import Finish
from aicache.core.policy import Policy
from aicache.core.records import NO_STAMPS, Answer, Ask, Entry, Failure
from aicache.store import news
from aicache.store.payload import (
    Unreadable,
    pack_entry,
    pack_failure,
    pack_lineage,
    read_entry,
    unpack_entry,
    unpack_failure,
    unpack_lineage,
)

ASK = Ask(key="k" * 64, lineage="l" * 64, tenant="t" * 32, policy=Policy("default"))


def entry(body: bytes = b"{}", **changes: object) -> Entry:
    answer = Answer(body, (("request-id", "req_1"),), Decimal("0.000042"))
    return Entry(**{"key": ASK.key, "tenant": ASK.tenant, "answer": answer, **TIMES, **changes})  # type: ignore[arg-type]


TIMES = {"stored_at": 1.5, "fresh_until": 2.5, "dies_at": 3.5}
HEADERS = st.lists(st.tuples(st.text(), st.text())).map(tuple)


@given(st.binary(), HEADERS, st.none() | st.decimals(allow_nan=False, allow_infinity=False))
def test_an_entry_comes_back_as_it_was(body: bytes, headers: tuple[tuple[str, str], ...], usd: Decimal | None) -> None:
    written = entry(answer=Answer(body, headers, usd))
    assert unpack_entry(pack_entry(written), ASK) == written


@given(st.integers(1, 100_000))
def test_a_long_body_is_smaller_on_the_server(size: int) -> None:
    body = (b"the same words again and again " * 4000)[:size]
    assert len(pack_entry(entry(body))) <= size + 400
    assert unpack_entry(pack_entry(entry(body)), ASK).answer.body == body


@given(
    st.builds(
        Failure,
        kind=st.sampled_from(["status", "connection", "timeout"]),
        status=st.integers(0, 599),
        headers=HEADERS,
        body=st.binary(),
        attempt=st.integers(0, 9),
        credential=st.text(),
        timeout=st.none() | st.floats(0, 600),
    )
)
def test_a_failure_comes_back_as_it_was(failure: Failure) -> None:
    assert unpack_failure(pack_failure(failure)) == failure


def test_a_lineage_comes_back_as_it_was() -> None:
    assert unpack_lineage(pack_lineage(Lineage("k", 2.5))) == Lineage("k", 2.5)


@pytest.mark.parametrize("changes", [{"key": "x" * 64}, {"tenant": "x" * 32}])
def test_an_entry_of_another_key_or_tenant_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(Unreadable):
        unpack_entry(pack_entry(entry(**changes)), ASK)


@given(st.binary())
def test_noise_is_unreadable_and_nothing_worse(noise: bytes) -> None:
    for unpack in (lambda data: unpack_entry(data, ASK), unpack_failure, unpack_lineage):
        with pytest.raises(Unreadable):
            unpack(noise)


@given(st.data())
def test_a_damaged_entry_is_unreadable_or_whole(data: st.DataObject) -> None:
    written = entry(b"x" * 3000)
    packed = bytearray(pack_entry(written))
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(Unreadable):
        unpack_entry(bytes(packed[:cut]), ASK)


def test_another_format_is_unreadable() -> None:
    packed = pack_entry(entry())
    with pytest.raises(Unreadable):
        unpack_entry(bytes([packed[0] + 1]) + packed[1:], ASK)


HEAD = 22


def framed(codec: int, length: int) -> bytes:
    return struct.pack(">BBI16s", 2, codec, length, bytes(16))


def test_a_body_that_inflates_beyond_what_it_says_is_not_inflated() -> None:
    header = json.dumps({"key": ASK.key, "tenant": ASK.tenant, "size": 10}).encode()
    bomb = framed(1, len(header)) + header + zlib.compress(b"0" * 50_000_000)
    with pytest.raises(Unreadable):
        unpack_entry(bomb, ASK)


@pytest.mark.parametrize("header", [[], 1, None, "x", {}, {"size": 2}, {"size": "2"}])
def test_a_header_of_another_shape_is_unreadable(header: object) -> None:
    text = json.dumps(header).encode()
    for unpack in (lambda data: unpack_entry(data, ASK), unpack_failure, unpack_lineage):
        with pytest.raises(Unreadable):
            unpack(framed(0, len(text)) + text + b"{}")


def damaged(packed: bytes, **changes: object) -> bytes:
    """With other values in its header, and a valid frame."""
    _, codec, length = struct.unpack_from(">BBI", packed)
    header = {**json.loads(packed[HEAD : HEAD + length]), **changes}
    text = json.dumps(header).encode()
    return framed(codec, len(text)) + text + packed[HEAD + length :]


NO_TEXT: tuple[Any, ...] = (17, True, None, [], {"a": "b"})
NO_TIME: tuple[Any, ...] = ("2.5", True, None, [], float("nan"), float("inf"), 10**400)
NO_HEADERS: tuple[Any, ...] = (
    "ab",
    17,
    None,
    {"ab": 1},
    [1],
    ["ab"],
    [["a"]],
    [["a", 1]],
    [["a", "b", "c"]],
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *product(("key", "tenant"), NO_TEXT),
        *product(("at", "fresh", "dies"), NO_TIME),
        *product(("headers",), NO_HEADERS),
        *product(("usd",), (1, 0.5, "much", "NaN", "Infinity", [])),
        *product(("traits",), (17, None, [1], [["a"]], "soon", {"a": 1})),
    ],
    ids=repr,
)
def test_an_entry_with_a_value_of_another_type_is_unreadable(field: str, value: Any) -> None:
    with pytest.raises(Unreadable):
        read_entry(damaged(pack_entry(entry()), **{field: value}))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "stroke"},
        {"kind": []},
        {"status": "529"},
        {"status": True},
        {"attempt": 1.5},
        {"credential": None},
        {"timeout": "10"},
        {"headers": [["retry-after", 1]]},
        {"headers": None},
    ],
)
def test_a_failure_with_a_value_of_another_type_is_unreadable(changes: dict[str, object]) -> None:
    with pytest.raises(Unreadable):
        unpack_failure(damaged(pack_failure(Failure("status", 529)), **changes))


@pytest.mark.parametrize("changes", [{"key": 1}, {"key": None}, {"dies": "2.5"}, {"dies": None}])
def test_a_lineage_with_a_value_of_another_type_is_unreadable(changes: dict[str, object]) -> None:
    with pytest.raises(Unreadable):
        unpack_lineage(damaged(pack_lineage(Lineage("k", 2.5)), **changes))


def test_a_size_below_nothing_does_not_inflate_without_bound() -> None:
    packed = damaged(pack_entry(entry(b"0" * 50_000_000)), size=-1)
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable):
            read_entry(packed)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_header_that_is_nested_without_end_is_unreadable() -> None:
    text = b"[" * 200_000
    with pytest.raises(Unreadable):
        read_entry(framed(0, len(text)) + text)


def ending(body: bytes, **changes: Any) -> Finish:
    return Finish(ASK, NO_STAMPS, "token", entry=entry(body), **changes)


LARGE = os.urandom(news.MOST_TOLD + 1)


@pytest.mark.parametrize(
    ("finish", "kind"),
    [
        (ending(b"{}"), news.NOT_SHARED),
        (ending(LARGE), news.NOT_SHARED),
        (ending(LARGE, share=True), news.NOT_SHARED),
        (Finish(ASK, NO_STAMPS, "token"), news.LOOK_AGAIN),
        (Finish(ASK, NO_STAMPS, "token", alone=True), news.NOT_SHARED),
    ],
    ids=["private", "large and private", "large", "abandoned", "alone"],
)
def test_what_is_neither_told_nor_kept_is_not_packed(
    finish: Finish, kind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "pack_entry", Mock(side_effect=AssertionError("packed")))
    assert news.message(finish) == (kind, b"")


def test_what_is_kept_and_too_large_to_be_told_is_looked_for() -> None:
    kind, payload = news.message(ending(LARGE, keep=True, share=True))
    assert kind == news.LOOK_AGAIN
    assert read_entry(payload).answer.body == LARGE
