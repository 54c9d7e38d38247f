"""An answer is shown as its Markdown means it, whatever is in it: nothing runs, is loaded, or leads astray."""

from __future__ import annotations

import html
import re
import time
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client

from aicache.admin.answers import LONGEST
from aicache.admin.markdown import rendered
from tests.admin.kept import kept, message, pinned
from tests.admin.pages import ENTRIES, KEYS


def in_the_admin(test: Any) -> Any:
    isolated = pytest.mark.usefixtures("aicache_isolated")
    return isolated(pytest.mark.django_db(transaction=True, databases="__all__")(test))


REL = "noopener noreferrer nofollow ugc"
ALLOWED = {
    "a": {"href", "rel"},
    "ol": {"start", "dir"},
    "pre": {"class", "tabindex", "dir"},
    "span": {"class"},
    "div": {"class", "dir"},
    **{tag: {"class", "dir"} for tag in ("td", "th")},
    **{tag: {"dir"} for tag in ("p", "h3", "h4", "h5", "h6", "ul", "blockquote", "table")},
    **{tag: set() for tag in ("bdi", "br", "code", "em", "hr", "li", "s", "strong", "tbody", "thead", "tr")},
}
VOID = {"br", "hr"}


class Seen(HTMLParser):
    """The elements of a piece of HTML. Raises AssertionError where one is not closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not (tag == "a" and "a" in self.open)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    handle_decl = unknown_decl = handle_pi = handle_comment


def harmless(markdown: str) -> Seen:
    """What it is shown as, which has no element and no attribute but those that do nothing."""
    seen = Seen(rendered(markdown) or "")
    for tag, attributes in seen.elements:
        assert tag in ALLOWED, tag
        assert set(attributes) <= ALLOWED[tag], (tag, attributes)
        if tag == "a":
            assert attributes["rel"] == REL
            assert re.match(r"(https?://[^/\\]|mailto:.)", attributes["href"] or "")
        assert (attributes.get("class") or "aicache-").startswith("aicache-")
    return seen


def page_of(client: Client, text: str | bytes) -> str:
    body = text if isinstance(text, bytes) else message(text)
    response = client.get(f"{ENTRIES}{kept(body).pk}/change/")
    assert response.status_code == 200
    page: str = response.content.decode()
    return page


class TestWhatItMeans:
    @pytest.mark.parametrize(
        ("markdown", "shown"),
        [
            ("*a* **b** ~~c~~ `d`", "<p><em>a</em> <strong>b</strong> <s>c</s> <code>d</code></p>"),
            ("a\nb  \nc", "<p>a\nb<br>\nc</p>"),
            ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>"),
            ("3. a", '<ol start="3">\n<li>a</li>\n</ol>'),
            ("> a\n\n---", "<blockquote>\n<p>a</p>\n</blockquote>\n<hr>"),
            ("a & b < c", "<p>a &amp; b &lt; c</p>"),
        ],
    )
    def test_is_shown(self, markdown: str, shown: str) -> None:
        assert re.sub(r' dir="auto"', "", rendered(markdown) or "").strip() == shown

    def test_headings_stand_below_those_of_the_page(self) -> None:
        found = [tag for tag, _ in harmless("# a\n## b\n### c\n#### d\n###### f\n").elements]
        assert found == ["h3", "h4", "h5", "h6", "h6"]

    def test_a_link_says_nothing_of_where_it_was_clicked(self) -> None:
        seen = harmless("[a](https://example.com/?x=1&y=2 'title') <http://x.example> <me@x.example>")
        links = [attributes for tag, attributes in seen.elements if tag == "a"]
        assert [link["href"] for link in links] == [
            "https://example.com/?x=1&y=2",
            "http://x.example",
            "mailto:me@x.example",
        ]

    def test_a_table_is_one_and_its_columns_keep_their_sides(self) -> None:
        seen = harmless("| a | b | c | d |\n|---|:--|:-:|--:|\n| 1 | 2 | 3 | 4 |")
        sides = [attributes.get("class") for tag, attributes in seen.elements if tag in ("th", "td")]
        assert sides == [None, "aicache-left", "aicache-center", "aicache-right"] * 2

    def test_code_is_shown_as_it_is(self) -> None:
        seen = harmless('```python evil"><script>\nif a < b:\n    *c*\n```\n\n    indented\n\n`<b>`')
        assert "if a < b:\n    *c*\n" in seen.text
        assert "indented" in seen.text

    def test_an_image_is_its_text_and_its_address(self) -> None:
        seen = harmless(
            "![a *cat*](https://x.example/cat.png?q=<1> 'title') [![b](http://y.example/b.png)](http://z.example)"
        )
        assert "a cat https://x.example/cat.png?q=%3C1%3E" in " ".join(seen.text.split())
        assert "b http://y.example/b.png" in seen.text
        assert [attributes["href"] for tag, attributes in seen.elements if tag == "a"] == ["http://z.example"]

    def test_what_is_written_from_right_to_left_stays_so_and_by_itself(self) -> None:
        markdown = "שלום **עולם**\n\n# كلمة\n\n- א\n\n| א |\n|---|\n| ב |\n\n\u202eabc\n\nabc"
        blocks = [(tag, attributes) for tag, attributes in harmless(markdown).elements if "dir" in attributes]
        assert [tag for tag, _ in blocks] == ["p", "h3", "ul", "table", "p", "p"]
        assert {attributes["dir"] for _, attributes in blocks} == {"auto"}


SCHEMES = [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    " javascript:alert(1)",
    "java\tscript:alert(1)",
    "java\nscript:alert(1)",
    "&#106;avascript:alert(1)",
    "&#x6A;avascript&colon;alert(1)",
    "javascript&#58;alert(1)",
    "java&Tab;script:alert(1)",
    "java&NewLine;script:alert(1)",
    "\x01javascript:alert(1)",
    "%6Aavascript:alert(1)",
    "javascript\\:alert(1)",
    "vbscript:x",
    "data:text/html,<script>alert(1)</script>",
    "data:text/html;base64,PHNjcmlwdD4=",
    "data:image/svg+xml;base64,PHN2Zz4=",
    "data:image/png;base64,iVBORw0KGgo=",
    "file:///etc/passwd",
    "blob:https://x.example/1",
    "//evil.example/x",
    "/\\evil.example",
    "\\\\evil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https:\\\\evil.example",
    "/admin/logout/",
    "?_popup=1",
    "#top",
    "..",
    "",
    "ftp://x.example",
    "intent://x#Intent;end",
    "http://",
    "mailto:",
]

EVIL = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<a href="javascript:alert(1)">x</a>',
    "<iframe srcdoc='<script>'>",
    "<style>@import 'http://x.example'</style>",
    "<div style='background:url(http://x.example)'>",
    "<!-- a comment --> <!-- > <script> -->",
    "<!DOCTYPE html>\n<?php x ?>\n<![CDATA[x]]>",
    "</pre></div></details></fieldset></form><form action='//x.example'>",
    '[a](https://x.example/"onmouseover="alert(1))',
    "[a](https://x.example/'\"><script>)",
    '!["><img src=x onerror=alert(1)>](https://x.example/"onerror="x)',
    '[a](https://x.example "x\' onclick=\'y\\" onclick=\\"z")',
    '```"><script>\n</code></pre><script>\n```',
    "``` a\u00a0onclick=x\n```",
    "`</code><script>`",
    '| <script> |\n|:-:" onclick=x|\n| <img src=x onerror=x> |',
    "[<http://a.example>](http://b.example) [a [b](http://c.example)](http://d.example)",
    "[![a](http://a.example) <http://b.example>](http://c.example)",
    "<http://a.example/<script>>",
    "&lt;script&gt; &#60;script&#62; &amp;lt;script>",
    "\\<script>",
    "a\x00b\x0b\x0c\x1b[31m\x85\u2028\u2029\ufeff",
    "\u202e\u2066 [a\u202e](https://x.example/\u202e)",
    "{{ 7 }}{% load x %}",
]
DEEP = [
    ">" * 10_000 + "a",
    "> " * 10_000 + "a",
    "- " * 10_000 + "a",
    "1. " * 10_000 + "a",
    "[" * 10_000 + "a" + "](http://x.example)" * 2_000,
    "![a" * 5_000 + "](http://x.example)" * 1_000,
    "*a " * 10_000 + "b*" * 10_000,
    "".join(f"{' ' * 2 * depth}* a\n" for depth in range(200)),
]


class TestWhatIsHostile:
    @pytest.mark.parametrize("address", SCHEMES)
    def test_no_address_but_of_the_web_and_of_mail_is_a_link(self, address: str) -> None:
        for form in (
            "[a]({})",
            "[a](<{}>)",
            "<{}>",
            "![a]({})",
            "![a](<{}>)",
            "[a][b]\n\n[b]: {}",
            "![a][b]\n\n[b]: <{}>",
            "{}",
        ):
            seen = harmless(form.format(address))
            assert not [tag for tag, _ in seen.elements if tag == "a"], form

    @pytest.mark.parametrize("evil", EVIL)
    def test_nothing_of_it_is_more_than_text(self, evil: str) -> None:
        harmless(evil)
        for text in (
            evil,
            f"> {evil}",
            f"- {evil}",
            f"| a |\n|---|\n| {evil} |",
            f"# {evil}",
            f"*{evil}*",
            f"[{evil}](http://x)",
        ):
            harmless(text)

    @in_the_admin
    def test_nor_is_it_on_a_page(self, reader: Client) -> None:
        page = reader.get(f"{ENTRIES}{kept(message(*EVIL)).pk}/change/").content.decode()
        assert page.count('class="aicache-rendered"') == len(EVIL)
        assert "<script>" not in page
        for tag, attributes in elements(page):
            assert not [name for name in attributes if name.startswith("on")], tag

    @in_the_admin
    def test_what_is_too_deep_is_shown_as_it_was_written(self, reader: Client) -> None:
        for deep in DEEP:
            assert rendered(deep) is None or "a" in harmless(deep).text
            assert html.escape(deep[:1000]) in page_of(reader, deep)

    @pytest.mark.parametrize(
        "heavy",
        [
            "x" * 2_000_000,
            "[" * 2_000_000,
            "![" * 1_000_000,
            "*_" * 1_000_000,
            "#\n" * 1_000_000,
            "\n" * 2_000_000,
            "<!--" * 500_000,
            "|a" * 5000 + "\n" + "|-" * 5000 + "\n" + "a\n" * 100_000,
            "|a|b|c\n|-|-|-\n" + "a\n" * 100_000,
        ],
        ids=lambda heavy: heavy[:8].strip(),
    )
    def test_what_is_long_takes_a_moment(self, heavy: str) -> None:
        began = time.process_time()
        shown = rendered(heavy[:LONGEST])
        assert time.process_time() - began < 10
        assert len(shown or "") < 20 * LONGEST

    @in_the_admin
    def test_what_is_very_long_is_cut_before(self, reader: Client) -> None:
        page = page_of(reader, "[" * 2_000_000)
        assert "1950000 more characters are not shown." in page
        assert len(page) < 4 * LONGEST

    @in_the_admin
    def test_broken_text_is_no_error(self, reader: Client) -> None:
        lone = b'{"type": "message", "content": [{"type": "text", "text": "**a** \\ud800 \\u0000"}]}'
        assert "<strong>a</strong> ?" in page_of(reader, lone)
        broken = b'{"type": "message", "content": [{"type": "text", "text": "**a** \xff\xfe"}]}'
        assert "**a** \ufffd\ufffd" in page_of(reader, broken)

    @in_the_admin
    def test_the_page_loads_nothing_from_elsewhere_and_styles_nothing_in_place(self, reader: Client) -> None:
        evil = (
            "![a](https://evil.example/a.png) <img src='https://evil.example/b.png'> [b](https://evil.example)\n\n"
            "| a |\n|--:|\n| 1 |\n\n<link rel=stylesheet href=https://evil.example/c.css>\n\n```css\nurl(x)\n```"
        )
        row = pinned("order-1", message(evil, {"type": "image", "source": {"url": "https://evil.example/d.png"}}))
        for page in (page_of(reader, evil), reader.get(f"{KEYS}{row.pk}/change/").content.decode()):
            for tag, attributes in elements(page):
                assert "style" not in attributes, tag
                assert not [name for name in attributes if name.startswith("on")]
                assert not attributes.keys() & {
                    "srcset",
                    "data",
                    "poster",
                    "background",
                    "action",
                    "formaction",
                    "ping",
                }
                if tag in ("link", "script", "img", "iframe", "audio", "video", "source", "object", "embed", "base"):
                    assert "//" not in (attributes.get("src") or "") + (attributes.get("href") or "")
                    assert ":" not in (attributes.get("src") or "") + (attributes.get("href") or "")
                assert tag != "style"
            assert "<script>" not in page


def elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    found: list[tuple[str, dict[str, str | None]]] = []

    class Reads(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag != "form":
                found.append((tag, dict(attrs)))

    Reads().feed(page)
    return found


@in_the_admin
class TestThePage:
    def test_one_switches_between_both_forms_without_a_script(self, reader: Client) -> None:
        page = page_of(reader, "**a**")
        assert "<strong>a</strong>" in page
        assert "**a**" in page
        switch = [attributes for tag, attributes in elements(page) if attributes.get("type") == "radio"]
        assert len(switch) == 2
        assert len({radio["name"] for radio in switch}) == 1
        assert ["checked" in radio for radio in switch] == [True, False]
        labels = {attributes["for"] for tag, attributes in elements(page) if tag == "label" and "for" in attributes}
        assert {radio["id"] for radio in switch} <= labels

    def test_where_there_is_one_form_there_is_no_switch(self, reader: Client) -> None:
        tool = {"type": "tool_use", "id": "t", "name": "find", "input": {"a": "**b**"}}
        for body in (message(tool), message(), {"text": "**a**"}, b"**a**"):
            page = reader.get(f"{ENTRIES}{kept(body).pk}/change/").content.decode()
            assert 'type="radio"' not in page
            assert "<strong>b" not in page

    def test_thoughts_are_folded_away(self, reader: Client) -> None:
        thought: dict[str, Any] = {"type": "thinking", "thinking": "Where </details> is *it*?", "signature": "s"}
        page = reader.get(f"{ENTRIES}{kept(message(thought, 'There.')).pk}/change/").content.decode()
        (folded,) = re.findall(r"(?s)<details.*?</details>", page)
        assert "open" not in folded.split(">")[0]
        assert "thinking" in folded
        assert "Where &lt;/details&gt; is *it*?" in folded
        assert "There." not in folded

    def test_a_tool_is_named_and_what_it_is_given_is_code(self, reader: Client) -> None:
        tool = {"type": "tool_use", "id": "toolu_1", "name": "find_order", "input": {"customer": 42}}
        page = reader.get(f"{ENTRIES}{kept(message(tool)).pk}/change/").content.decode()
        assert "tool_use: find_order" in page
        assert re.search(r'(?s)<pre class="aicache-code"[^>]*>{\n  &quot;customer&quot;: 42\n}</pre>', page)
