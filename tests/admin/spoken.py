"""What a page says in words: to whoever looks, and to whoever is told of what cannot be seen."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

UNSAID = ("script", "style", "pre", "code")
SAID = ("alt", "aria-label", "label", "placeholder", "title")
PLACES = re.compile(r"\{\w+\}")  # which a script fills
WORDS = re.compile(r"[\w.'-]*[A-Za-z][\w.'-]*", re.ASCII)
EMPTY = ("area", "br", "col", "hr", "img", "input", "link", "meta", "wbr")


class Spoken(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._quiet: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if self._quiet or tag in UNSAID or (tag != "html" and "lang" in given):
            self._quiet += [] if tag in EMPTY else [tag]
            return
        said = [*SAID, *(["value"] if given.get("type") in ("submit", "button") else [])]
        if tag in ("canvas", "section"):  # for the scripts that draw there
            said += [name for name in given if name.startswith("data-")]
        self.words += [text for name in said if (text := given.get(name)) and tag != "button"]

    def handle_endtag(self, tag: str) -> None:
        if self._quiet and self._quiet[-1] == tag:
            self._quiet.pop()

    def handle_data(self, data: str) -> None:
        if not self._quiet:
            self.words.append(data)


def latin(response: Any) -> set[str]:
    """The words in Latin letters that a page says; what has figures, or dots and strokes within it, is none."""
    parser = Spoken()
    parser.feed(response.content.decode())
    found = {word.strip(".'-") for said in parser.words for word in WORDS.findall(PLACES.sub("", said))}
    return {word for word in found if word.isalpha() or "'" in word}
