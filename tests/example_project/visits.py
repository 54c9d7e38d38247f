"""A visitor of a help-centre that really runs, with cookies and forms, as a browser would."""

from __future__ import annotations

import re
from http.cookiejar import CookieJar
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, ProxyHandler, build_opener


class Visitor:
    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> str:
        with self._opener.open(f"{self._url}{path}", timeout=20) as page:
            return str(page.read().decode())

    def post(self, path: str, **fields: str) -> str:
        """Fills in the form that stands on that very page."""
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(path))
        assert token
        data = urlencode({"csrfmiddlewaretoken": token[1], **fields}).encode()
        with self._opener.open(f"{self._url}{path}", data, timeout=20) as page:
            return str(page.read().decode())


def reason_on(page: str) -> str:
    found = re.search(r"<dt>(?:Reason|Grund)</dt><dd>[^<]*<code>([^<]+)</code>", page)
    return found[1] if found else ""


def answer_on(page: str) -> str:
    """The stand-in's number says which call it is from."""
    found = re.search(r"<p>(Answer \d+)", page)
    return found[1] if found else ""


def status_on(page: str) -> str:
    found = re.search(r'<span class="badge">(\w+)</span>', page)
    return found[1] if found else ""
