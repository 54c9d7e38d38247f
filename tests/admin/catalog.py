"""What can be translated in the app's code and pages, and what is: without gettext's tools, which few machines have."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from django.utils.translation.template import templatize

import aicache

APP = Path(aicache.__file__).parent
CALLS = {"gettext": "t", "gettext_noop": "t", "ngettext": "tp", "pgettext": "ct", "npgettext": "ctp"}
"""What each says with its first arguments: text, plural, context."""
LITERAL = r"""u?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
IN_TEMPLATE = re.compile(rf"\b(_|n?p?gettext)\(((?:\s*{LITERAL}\s*,?)+)")


class Message(NamedTuple):
    text: str
    plural: str = ""
    context: str = ""


def in_code() -> set[Message]:
    return {found for path in APP.rglob("*.py") for found in _in_python(path.read_text())} | {
        found for path in APP.rglob("templates/**/*.html") for found in _in_template(path.read_text())
    }


def _in_python(source: str) -> Iterator[Message]:
    tree = ast.parse(source)
    called = {
        name.asname or name.name: name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation"
        for name in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            kinds = CALLS.get(called.get(node.func.id, "").removesuffix("_lazy"))
            given = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            if kinds and len(given) >= len(kinds):
                yield _message(kinds, given)


def _in_template(source: str) -> Iterator[Message]:
    for name, arguments in IN_TEMPLATE.findall(templatize(source)):
        yield _message(
            CALLS["gettext" if name == "_" else name], [*map(ast.literal_eval, re.findall(LITERAL, arguments))]
        )


def _message(kinds: str, given: list[str]) -> Message:
    said = dict(zip(kinds, given, strict=False))
    return Message(said["t"], said.get("p", ""), said.get("c", ""))


class Catalog:
    """A .po file. ``fuzzy``: what somebody is to look at once more."""

    def __init__(self, path: Path) -> None:
        self.known: dict[Message, list[str]] = {}
        self.fuzzy: list[str] = []
        for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
            said: dict[str, str] = {}
            field = ""
            for line in block.splitlines():
                if line.startswith("#"):
                    if "fuzzy" in line and line.startswith("#,"):
                        self.fuzzy.append(block)
                    continue
                field, literal = line.split(" ", 1) if line[0] != '"' else (field, line)
                said[field] = said.get(field, "") + ast.literal_eval(literal)
            if "msgid" in said:
                message = Message(said["msgid"], said.get("msgid_plural", ""), said.get("msgctxt", ""))
                assert message not in self.known, f"{message} stands there twice"
                self.known[message] = [text for name, text in said.items() if name.startswith("msgstr")]

    def compiled(self) -> dict[str | tuple[str, int], str]:
        """As ``gettext.GNUTranslations`` has it, without the header."""
        found: dict[str | tuple[str, int], str] = {}
        for message, texts in self.known.items():
            key = f"{message.context}\x04{message.text}" if message.context else message.text
            if message.plural:
                found |= {(key, number): text for number, text in enumerate(texts)}
            elif message.text:
                found[key] = texts[0]
        return found
