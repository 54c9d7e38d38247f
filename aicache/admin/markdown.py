"""Markdown as HTML that does nothing: it loads nothing, runs nothing, and has no style but the page's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from typing import Any, Final

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

DEEPEST: Final = 40
"""Blocks in blocks; of what is deeper the parser says nothing."""
MOST_CELLS: Final = 20_000
"""Of a table. The parser fills up rows: a few thousand characters are enough for many more."""
ADDRESS: Final = re.compile(r"https?://[^/\\]|mailto:.", re.IGNORECASE)
REL: Final = "noopener noreferrer nofollow ugc"
BORDER: Final = re.compile(r"(?m)^[-|: \t>*+.)0-9]*-[-|: \t>*+.)0-9]*$")
SIDES: Final = {f"text-align:{side}": f"aicache-{side}" for side in ("left", "center", "right")}


class Harmless(RendererHTML):
    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """Its text and its address: whoever it would be loaded from would hear of each reader."""
        text = self.renderInlineAsText(tokens[idx].children, options, env)
        return format_html(
            '<span class="aicache-image">{} <bdi>{}</bdi></span>', text, tokens[idx].attrs.get("src", "")
        )

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return f'<pre class="aicache-code" dir="auto" tabindex="0"><code>{escape(tokens[idx].content)}</code></pre>\n'

    code_block = fence

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return '<div class="aicache-wide">' + self.renderToken(tokens, idx, options, env)

    def table_close(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        return self.renderToken(tokens, idx, options, env) + "</div>\n"


class Parser(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802 - the name that it is asked by
        """What is not allowed is no link: it is shown as it was written."""
        return ADDRESS.match(url) is not None


def _parser(*more: str) -> MarkdownIt:
    return Parser(
        "commonmark", {"html": False, "maxNesting": DEEPEST, "xhtmlOut": False}, renderer_cls=Harmless
    ).enable(list(more))


WITH_TABLES: Final = _parser("strikethrough", "table")
WITHOUT: Final = _parser("strikethrough")


def rendered(markdown: str) -> SafeString | None:
    """None: it cannot be shown otherwise than as it was written."""
    parser = WITHOUT if _has_vast_tables(markdown) else WITH_TABLES
    try:
        tokens = parser.parse(markdown)
        if any(token.level >= DEEPEST - 1 for token in tokens):
            return None
        for token in tokens:
            _tame(token)
            token.children = None if token.children is None else list(_tamed_links(token.children))
        shown: str = parser.renderer.render(tokens, parser.options, {})
    except RecursionError:
        return None
    return mark_safe(shown)  # noqa: S308 - by a renderer that escapes, of tokens whose attributes are all ours


def _has_vast_tables(markdown: str) -> bool:
    widest = max((line.count("|") + 1 for line in BORDER.findall(markdown)), default=0)
    return widest * (markdown.count("\n") + 1) > MOST_CELLS


def _tame(token: Token) -> None:
    """Leaves it the attributes that say something."""
    given = token.attrs
    token.attrs = {"start": given["start"]} if "start" in given else {}
    if side := SIDES.get(str(given.get("style"))):
        token.attrs["class"] = side
    if token.level == 0 and token.nesting == 1:
        token.attrs["dir"] = "auto"
    if token.type in ("heading_open", "heading_close"):
        token.tag = f"h{min(int(token.tag[1:]) + 2, 6)}"  # the page's own end with the second


def _tamed_links(tokens: Iterable[Token]) -> Iterator[Token]:
    """Of a link in a link, and of one that leads nowhere, its text."""
    links: list[bool] = []
    for token in tokens:
        if token.type == "link_open":
            links.append(not any(links) and ADDRESS.match(str(token.attrs["href"])) is not None)
            token.attrs = {"href": token.attrs["href"], "rel": REL}
            if links[-1]:
                yield token
        elif token.type != "link_close" or links.pop():
            yield token
