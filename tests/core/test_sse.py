from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.core.sse import Cutter, as_json, read, written

ENDS = [b"\n", b"\r\n", b"\r"]
# Bodies with many line ends in them.
BODIES = st.lists(st.sampled_from([*ENDS, b"\n\n", b"\r\n\r\n", b"data: x", b"\xff", b":"]), max_size=12).map(b"".join)


@st.composite
def chunked(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> list[bytes]:
    """A body in chunks, some of them empty."""
    body = draw(bodies)
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=8)))
    return [body[begin:end] for begin, end in pairwise([0, *cuts, len(body)])]


def cut(chunks: list[bytes]) -> tuple[list[bytes], int]:
    cutter = Cutter()
    return [event for chunk in chunks for event in cutter.cut(chunk)], cutter.pending


class TestCutting:
    @settings(deadline=None, max_examples=200)
    @given(chunked(BODIES | st.binary(max_size=40)))
    def test_loses_nothing_and_adds_nothing(self, chunks: list[bytes]) -> None:
        body = b"".join(chunks)

        events, pending = cut(chunks)

        assert b"".join(events) + body[len(body) - pending :] == body

    @settings(deadline=None, max_examples=300)
    @given(chunked(BODIES | st.binary(max_size=40)))
    def test_is_the_same_in_whatever_chunks_a_body_comes(self, chunks: list[bytes]) -> None:
        body = b"".join(chunks)

        assert cut(chunks) == cut([body]) == cut([body[at : at + 1] for at in range(len(body))])

    @pytest.mark.parametrize("end", ENDS, ids=repr)
    @pytest.mark.parametrize("step", range(1, 30))
    def test_ends_an_event_with_the_last_byte_of_its_empty_line(self, end: bytes, step: int) -> None:
        given = [b"event: a" + end + b"data: 1" + 2 * end, b": stays" + 2 * end, b"event: b" + 2 * end]
        body = b"".join(given)

        assert cut([body[at : at + step] for at in range(0, len(body), step)]) == (given, 0)

    @pytest.mark.parametrize("end", ENDS, ids=repr)
    def test_does_not_wait_for_the_next_event(self, end: bytes) -> None:
        event, cutter = b"event: a" + end + b"data: 1" + 2 * end, Cutter()

        assert cutter.cut(event[:-1]) == []
        assert cutter.pending == len(event) - 1
        assert cutter.cut(event[-1:]) == [event]
        assert cutter.pending == 0

    def test_takes_an_empty_line_in_which_line_ends_are_mixed(self) -> None:
        assert cut([b"event: a\r\n\nevent: b\n\r\nevent: c\n\rdata: d\r\r"])[0] == [
            b"event: a\r\n\n",
            b"event: b\n\r\n",
            b"event: c\n\r",
            b"data: d\r\r",
        ]

    def test_takes_two_halves_of_a_crlf_for_one_line_end(self) -> None:
        assert cut([b"event: a\r", b"\ndata: 1\r", b"\n"]) == ([], 19)


class TestReading:
    @pytest.mark.parametrize(
        ("event", "name", "data"),
        [
            (b"event: a\ndata: 1\n\n", "a", "1"),
            (b"event:a\ndata:1\n\n", "a", "1"),
            (b"data:  1 \r\nevent: a\r\n\r\n", "a", " 1 "),
            (b"event: a\rdata: 1\r\r", "a", "1"),
            (b"data: 1\ndata\ndata: 2\n\n", "", "1\n\n2"),
            (b"event: a\nevent: b\n\n", "b", ""),
            (b": event: a\nid: 1\nretry: 5\ndatum: 1\n\n", "", ""),
            (b"\nevent: a: b\n\n", "a: b", ""),
            ("data: ❄\u2028\x85\x0b\x0c\x1c𝄞\n\n".encode(), "", "❄\u2028\x85\x0b\x0c\x1c𝄞"),
            (b"\n\n", "", ""),
            (b"", "", ""),
        ],
    )
    def test_gives_name_and_data(self, event: bytes, name: str, data: str) -> None:
        assert read(event) == (name, data)

    @pytest.mark.parametrize("event", [b"event: \xff\n\n", b"data: \xed\xa0\x80\n\n"])
    def test_of_what_is_not_utf_8_raises(self, event: bytes) -> None:
        with pytest.raises(UnicodeDecodeError):
            read(event)


class TestWriting:
    @settings(deadline=None, max_examples=100)
    @given(
        st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.none() | st.text())),
        st.sampled_from(["message_stop", "ping"]),
    )
    def test_what_is_written_is_one_event_that_is_read_again(self, fields: dict[str, Any], kind: str) -> None:
        event = {**fields, "type": kind}

        (cut_off,), pending = cut([written(event)])
        name, data = read(cut_off)

        assert pending == 0
        assert (name, json.loads(data)) == (kind, event)

    def test_looks_like_upstream(self) -> None:
        assert written({"type": "ping", "a": ["❄", 1]}) == (
            'event: ping\ndata: {"type":"ping","a":["❄",1]}\n\n'.encode()
        )

    def test_escapes_half_a_character(self) -> None:
        assert as_json({"a": "\ud800❄"}) == b'{"a":"\\ud800\\u2744"}'
