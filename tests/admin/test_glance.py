"""What is known of an answer from the beginning of its payload."""

from __future__ import annotations

import struct

import pytest

from aicache.admin.glance import HEAD, SHOWN, Glance, first_words, glance
from aicache.core.records import Answer, Entry, Stamps
from aicache.store.payload import FORMAT, Unreadable, pack_entry


def frame(header: bytes, body: bytes = b"", codec: int = 0) -> bytes:
    return struct.pack(">BBI16s", FORMAT, codec, len(header), bytes(16)) + header + body


def test_an_answer_that_unpacks_to_far_more_is_unpacked_to_what_is_shown() -> None:
    entry = Entry("key", "tenant", Answer(b"x" * 50_000_000), 0.0, 0.0, 0.0, Stamps((), (1, 2)))
    found = glance(pack_entry(entry)[:HEAD])
    assert (found.generations, found.answer) == ((1, 2), b"x" * SHOWN)


def test_a_header_that_is_longer_than_what_is_read_is_not_taken_for_a_broken_one() -> None:
    headers = (("anthropic-long", "x" * HEAD),)
    payload = pack_entry(Entry("key", "tenant", Answer(b"{}", headers), 0.0, 0.0, 0.0, Stamps((), (1,))))
    assert glance(payload[:HEAD]) == Glance()
    assert glance(payload).generations == (1,)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x09" + bytes(40),
        frame(b"nonsense"),
        frame(b"[1]"),
        frame(b"{}"),
        frame(b'{"generations": 7}'),
        frame(b'{"generations": ["x"]}'),
        frame(b"[" * 10_000),
        frame(b'{"generations": null}', b"no zlib", codec=1),
    ],
)
def test_what_is_none_of_ours_is_unreadable(payload: bytes) -> None:
    with pytest.raises(Unreadable):
        glance(payload)


def test_where_nobody_counted_nothing_is_known() -> None:
    assert glance(frame(b'{"generations": null, "size": 2}', b"{}")) == Glance(None, b"{}")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            b'{"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Yes, of cou',
            "Yes, of cou",
        ),
        (b'{"content": [{"type": "tool_use", "name": "f"}]}', '{"content": [{"type": "tool_use", "name": "f"}]}'),
        (b'{"content": "plain"}', "plain"),
        (b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}', "a"),
        (b'{"messages": [{"role": "user", "content": [{"text": "doc"}, {"text": "ask"}, {"text": " "}]}]}', "ask"),
        (b'{"messages": [7]}', "[7]"),
        (b'{"messages": "x"}', '{"messages": "x"}'),
        (b'"a  word\\n"', "a word"),
        ("é".encode()[:1], ""),
        (b"", ""),
        (b"nonsense", ""),
        (b"[" * 10_000, ""),
        (b'"\\ud800"', ""),
    ],
)
def test_they_are_what_is_asked_and_what_is_answered(document: bytes, words: str) -> None:
    assert first_words(document) == words
