from __future__ import annotations

import json
import struct
import zlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.core.policy import Policy
from aicache.core.records import Answer, Ask, Entry, Failure, Lineage
from aicache.store.payload import (
    Unreadable,
    pack_entry,
    pack_failure,
    pack_lineage,
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


def test_a_body_that_inflates_beyond_what_it_says_is_not_inflated() -> None:
    header = json.dumps({"key": ASK.key, "tenant": ASK.tenant, "size": 10}).encode()
    bomb = struct.pack(">BBI", 1, 1, len(header)) + header + zlib.compress(b"0" * 50_000_000)
    with pytest.raises(Unreadable):
        unpack_entry(bomb, ASK)


@pytest.mark.parametrize("header", [[], 1, None, "x", {}, {"size": 2}, {"size": "2"}])
def test_a_header_of_another_shape_is_unreadable(header: object) -> None:
    text = json.dumps(header).encode()
    for unpack in (lambda data: unpack_entry(data, ASK), unpack_failure, unpack_lineage):
        with pytest.raises(Unreadable):
            unpack(struct.pack(">BBI", 1, 0, len(text)) + text + b"{}")
