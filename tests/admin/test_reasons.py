"""An entry's page says why it is kept under its key, and what has become of all that it hangs on."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

import aicache
from aicache import GLOBAL
from aicache.admin.keyed import LEFT_OUT
from aicache.core.fingerprint import BODY_NOISE
from aicache.core.tags import Tag
from aicache.durable import get_writer
from aicache.models import CacheEntry, Invalidation
from aicache.tenants import tenant_digest
from tests.admin.conftest import Staff
from tests.admin.kept import kept, message, question
from tests.admin.limits import limited_to
from tests.admin.pages import ENTRIES, INVALIDATIONS, text
from tests.freshness.far import far
from tests.freshness.library.models import Article

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]


def page_of(client: Client, row: CacheEntry) -> Any:
    return client.get(f"{ENTRIES}{row.pk}/change/")


def keyed(client: Client, row: CacheEntry) -> str:
    return text(page_of(client, row)).split("What its key is made of")[1]


def tags(client: Client, row: CacheEntry) -> dict[str, list[str]]:
    """Of each tag what has become of it, and its last invalidations."""
    page = page_of(client, row).content.decode()
    found = {}
    for line in re.findall(r'(?s)<tr class="aicache-past">(.*?)</tr>', page):
        cells = [re.sub(r"<[^>]+>", " ", cell) for cell in re.findall(r"(?s)<t[hd][^>]*>(.*?)</t[hd]>", line)]
        name, *rest = [" ".join(html.unescape(cell).split()) for cell in cells]
        found[name] = rest
    return found


class TestItsKey:
    def test_the_sources_and_their_versions_are_in_it(self, reader: Client) -> None:
        row = kept(None, "prices", sources=[["library.article:1", "3f" * 20], ["library.org:7", "2026-01-02"]])
        told = keyed(reader, row)
        assert "Tags prices" in told
        assert f"library.article:1 {'3f' * 20}" in told
        assert "library.org:7 2026-01-02" in told
        assert f"Question {row.lineage[:12]}" in told
        assert "Sources none" in keyed(reader, kept(None, "prices"))
        assert "Tags none" in keyed(reader, kept())

    def test_what_the_app_has_written_says_what_it_was_made_from(self, reader: Client) -> None:
        article = Article.objects.create(title="Returns")
        with aicache.scope(tenant="acme", sources=[article], tags=["prices"]):
            aicache.remember({"question": "?"}, lambda: {"answer": "!"})
        assert get_writer().flush()
        told = keyed(reader, CacheEntry.objects.get())
        assert f"library.article:{article.pk} " in told
        assert ":*" not in told

    def test_the_fields_of_a_request_that_is_kept_are_named_and_those_left_out_say_why(self, reader: Client) -> None:
        row = kept(request=question("Öl?" * 50, stream=True, metadata={"user_id": "7"}, temperature=0.5))
        told = keyed(reader, row)
        assert 'model "claude-sonnet-5"' in told
        assert "temperature 0.5" in told
        assert re.search(r"messages \[\{.{20,80}… \(\d+ characters\)", told)
        assert "stream true how the answer travels, not what it says" in told
        assert 'metadata {"user_id": "7"} who asks' in told
        assert "explain_key" in told

    def test_each_reason_to_leave_a_field_out_is_known_in_every_language(self) -> None:
        with translation.override("en"):
            assert {name: str(why) for name, why in LEFT_OUT.items()} == dict(BODY_NOISE)

    @pytest.mark.parametrize("request_", ["no JSON", "[1]", "7", '{"x": ' + "[" * 5000, '{"<script>": "<script>"}'])
    def test_a_request_that_is_no_object_is_no_error(self, reader: Client, request_: str) -> None:
        row = kept(request="x")
        CacheEntry.objects.update(request=request_)
        page = page_of(reader, row)
        assert page.status_code == 200
        assert "<script>" not in page.content.decode()

    def test_whoever_may_not_read_sees_what_a_row_knows_and_no_request(self, staff: Staff) -> None:
        row = kept(None, "prices", request=question("Öl?", temperature=0.5), sources=[["a.b:1", "v1"]])
        told = text(page_of(staff("view_cacheentry"), row))
        assert "a.b:1 v1" in told
        assert "temperature" not in told

    def test_other_answers_to_the_same_question_say_what_differs(self, reader: Client) -> None:
        same = {"lineage": "e" * 64, "question": "f" * 32}
        row = kept(None, "prices", sources=[["a.b:1", "v2"], ["a.b:2", "v1"]], **same)
        older = kept(None, "prices", "rates", sources=[["a.b:1", "v1"], ["a.b:3", "v1"]], **same)
        kept(None, question="f" * 31 + "0")
        page = page_of(reader, row)
        told = keyed(reader, row)
        assert f'href="{ENTRIES}{older.pk}/change/"' in page.content.decode()
        assert f"{older.key[:12]}" in told
        assert "a.b:1: another version" in told
        assert "a.b:2: only here" in told
        assert "a.b:3: only there" in told
        assert "rates: only there" in told
        assert "same question" not in keyed(reader, kept())

    def test_of_many_such_answers_a_few_are_shown(self, reader: Client) -> None:
        many = [kept(sources=[["a.b:1", str(number)]], lineage="e" * 64, question="f" * 32) for number in range(20)]
        assert keyed(reader, many[0]).count("another version") == 5


class TestItsTags:
    def test_each_says_whether_it_has_died_since_and_when_it_last_did(self, reader: Client) -> None:
        aicache.invalidate("prices", tenant="acme")
        row = kept(None, "prices", "rates", "library.article")
        for _ in range(4):
            aicache.invalidate("rates", tenant="acme")
        Article.objects.create(title="a").save()

        found = tags(reader, row)

        assert found["prices"][0] == "stands"
        assert found["prices"][1].count("invalidate") == 1
        assert found["rates"][0] == "died since"
        assert found["rates"][1].count("invalidate") == 3
        assert found["library.article"][0] == "died since"
        assert "everybody's" in found["library.article"][1]
        assert "library.article:*" not in found

    def test_the_newest_comes_first_and_leads_to_its_page_and_to_all(self, reader: Client) -> None:
        row = kept(None, "prices")
        tag = Tag("prices", tenant_digest("acme"))
        made = [
            Invalidation.objects.create(
                digest=tag.digest,
                tag="prices",
                tenant="acme",
                cause=f"cause {age}",
                made_at=timezone.now() - timedelta(hours=age),
            )
            for age in (9, 3, 2, 1)
        ]
        page = page_of(reader, row).content.decode()
        assert re.findall(r"cause \d", page) == ["cause 1", "cause 2", "cause 3"]
        assert f'href="{INVALIDATIONS}{made[-1].pk}/change/"' in page
        assert f'href="{INVALIDATIONS}?digest={tag.digest}"' in page

    def test_those_of_another_database_are_among_them(self, reader: Client) -> None:
        row = kept(None, "prices")
        tag = Tag("prices", tenant_digest("acme"))
        Invalidation.objects.using("other").create(
            digest=tag.digest, tag="prices", tenant="acme", cause="elsewhere", made_at=timezone.now()
        )
        assert "elsewhere" in tags(reader, row)["prices"][1]
        assert f'href="{INVALIDATIONS}?digest={tag.digest}&amp;db=other"' in page_of(reader, row).content.decode()

    def test_whoever_may_not_see_invalidations_sees_none_and_whether_it_died_all_the_same(self, staff: Staff) -> None:
        row = kept(None, "prices")
        aicache.invalidate("prices", tenant="acme")
        (found,) = tags(staff("view_cacheentry"), row).values()
        assert found[0] == "died since"
        assert "invalidate" not in " ".join(found)

    def test_whoever_may_not_see_everybodys_sees_none_of_those(self, reader: Client) -> None:
        row = kept(None, "prices")
        aicache.invalidate("prices", tenant=GLOBAL)
        assert "everybody's" in tags(reader, row)["prices"][1]
        with limited_to("acme"):
            assert tags(reader, row) == {"prices": ["died since", "-"]}

    def test_it_is_not_known_where_a_database_is_silent_or_nobody_counted(self, reader: Client, tmp_path: Path) -> None:
        row = kept(None, "prices")
        with far("refuses", tmp_path):
            assert tags(reader, row)["prices"][0] == "unknown"
        assert tags(reader, kept(None, "prices", payload=b"nonsense"))["prices"][0] == "unknown"

    def test_many_tags_cost_as_many_queries_as_one(self, reader: Client) -> None:
        def queries(row: CacheEntry) -> int:
            with CaptureQueriesContext(connection) as captured:
                assert page_of(reader, row).status_code == 200
            return len(captured)

        few = kept(message("a"), "0")
        queries(few)
        many = kept(message("b"), *map(str, range(64)))
        for number in range(64):
            aicache.invalidate(str(number), tenant="acme")
        assert len(tags(reader, many)) == 64
        assert queries(many) == queries(few)
