from __future__ import annotations

import html
import re
import time
import zlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

import aicache
from aicache.admin import search
from aicache.admin.confirmation import MOST
from aicache.admin.frequent import NEWEST
from aicache.admin.glance import HEAD
from aicache.conf import get_settings
from aicache.core.tags import of_answer
from aicache.durable import get_writer
from aicache.freshness.drain import compact, drain
from aicache.models import CacheEntry, Invalidation, InvalidationTag
from aicache.tenants import GLOBAL
from tests.admin.conftest import Staff
from tests.admin.kept import kept, message, question
from tests.admin.pages import ENTRIES, INVALIDATIONS, PURGE_ENTRIES, TAGS, hidden, rows, text
from tests.answers import ask, index, keep, without_redis
from tests.freshness.far import far
from tests.freshness.library.models import Article

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]


def written() -> list[CacheEntry]:
    """The copies of what was asked, as soon as they are there."""
    assert get_writer().flush()
    return list(CacheEntry.objects.order_by("pk"))


def page_of(client: Client, row: CacheEntry) -> Any:
    return client.get(f"{ENTRIES}{row.pk}/change/")


def states(client: Client) -> list[str]:
    """Of the entries, the oldest first, without what is left of their lives."""
    shown = client.get(ENTRIES).content.decode()
    return [html.unescape(label) for label in re.findall(r"aicache-state [^>]*>([^<]*)<", shown)][::-1]


def found(client: Client, query: str) -> list[str]:
    """Which answers a search or a filter leaves, by their first words."""
    return sorted(row[0].split(maxsplit=1)[-1] for row in rows(client.get(f"{ENTRIES}?{query}")))


class TestTheList:
    def test_an_entry_is_shown_in_a_few_words(self, reader: Client) -> None:
        asked = question("Hello.", "Can I get\n a refund?", system="You are a shop.")
        kept(message("Yes, within\n30 days."), request=asked, hits=7, tokens=1234)
        kept(
            {"vector": [1, 2]},
            tenant=GLOBAL,
            usd=None,
            model="",
            policy="daily",
            request={"request": {"input": "zips"}},
        )

        shown = rows(reader.get(ENTRIES))

        assert shown[1][0] == "Can I get a refund? Yes, within 30 days."
        assert re.match(r"living 59 min left", shown[1][1])
        assert shown[1][2:4] == ["acme claude-sonnet-5, default", "1234 $0.0042"]
        assert shown[1][4].startswith("7 in ")
        assert shown[0][0] == '{"input": "zips"} {"vector": [1, 2]}'
        assert shown[0][2:4] == ["everybody's daily", "46 -"]

    def test_a_request_that_is_not_kept_is_known_by_the_beginning_of_its_key(self, reader: Client) -> None:
        row = kept(message("Yes."))
        assert rows(reader.get(ENTRIES))[0][0] == f"{row.key[:12]} Yes."

    def test_what_the_app_itself_has_written_is_living(self, reader: Client) -> None:
        assert ask("zips?", "prices", "library.article") == "miss"
        written()
        assert states(reader) == ["living"]
        assert '{"answer": "zips?"}' in rows(reader.get(ENTRIES))[0][0]

    def test_each_says_whether_it_would_still_be_served(self, reader: Client) -> None:
        article = Article.objects.create(title="Returns")
        kept(message("of prices"), "prices")
        kept(message("of all articles"), "library.article")
        kept(message("of everybody's"), "rates", tenant="globex")
        kept(message("over"), "prices", life=-1)
        ended = kept(message("ended by itself"))
        kept(digest="of another site")
        kept(payload=b"\x07")
        kept(message("lives"), "prices", tenant="globex")
        article.save()
        aicache.invalidate("prices", tenant="acme")
        aicache.invalidate("rates", tenant=GLOBAL)
        its_own = of_answer(ended.lineage, ended.key, ended.owner)
        Invalidation.objects.create(digest=its_own.digest, tag=its_own.name, made_at=timezone.now())

        assert states(reader) == [
            "invalidated by prices",
            "invalidated by library.article",
            "invalidated by rates",
            "expired",
            "purged",
            "of another namespace",
            "unreadable",
            "living",
        ]

    def test_an_entry_is_not_called_living_while_a_database_does_not_answer(
        self, reader: Client, tmp_path: Path
    ) -> None:
        kept(message("who knows"), "prices")
        kept(message("dead anyway"), "rates")
        aicache.invalidate("rates", tenant="acme")
        with far("refuses", tmp_path) as alias:
            shown = reader.get(ENTRIES)
            assert f"The database {alias} does not answer" in text(shown)
            assert states(reader) == ["unknown", "invalidated by rates"]

    def test_entries_are_found_by_what_is_known_of_them(self, reader: Client) -> None:
        row = kept(message("first"), 'Preis "groß"', request=question('Wie "teuer"\nist Öl?'))
        kept(message("second"), tenant="globex", model="claude-opus-4")
        kept(message("third"), "x.product:42")

        for query, answers in {
            row.key: 1,
            row.key[5:40]: 1,
            "0" * 64: 0,
            "glob": 1,
            "opus": 1,
            "product:42": 1,
            "groß": 1,
            "'Preis \"gro'": 1,
            "Öl": 1,
            '"\\"teuer\\""': 1,
            "acme Öl": 1,
            "globex Öl": 0,
            "%": 0,
        }.items():
            assert len(rows(reader.get(ENTRIES, {"q": query}))) == answers, query

    @pytest.mark.parametrize("number", [search.MOST, 1500])
    def test_what_is_pasted_into_the_search_may_be_long(self, reader: Client, number: int) -> None:
        words = " ".join(f"word{at}" for at in range(number))
        kept(message("first"), request=question(words))
        kept(message("second"), request=question("word"))
        began = time.process_time()
        assert len(rows(reader.get(ENTRIES, {"q": words}))) == 1
        assert time.process_time() - began < 5

    def test_entries_are_narrowed_down(self, reader: Client) -> None:
        kept(message("a"))
        kept(message("b"), tenant="globex", model="claude-opus-4", policy="daily")
        kept(message("c"), tenant=GLOBAL, life=-1)

        assert found(reader, "tenant=acme") == ["a"]
        assert found(reader, "tenant=nobody") == []
        assert found(reader, "model=claude-opus-4") == ["b"]
        assert found(reader, "policy=default") == ["a", "c"]
        assert found(reader, "whose=everybody") == ["c"]
        assert found(reader, "life=on") == ["a", "b"]
        assert found(reader, "life=over") == ["c"]
        assert found(reader, "life=nonsense&policy=daily") == ["b"]
        narrowed = text(reader.get(f"{ENTRIES}?tenant=of-long-ago"))
        assert "By tenant All acme globex of-long-ago" in narrowed

    def test_of_thousands_of_tenants_the_most_frequent_are_offered(self, reader: Client) -> None:
        row = kept()
        many = []
        for number in range(NEWEST + 1):
            tenant = f"t{number}" if number < 40 or number % 2 else "often"
            many.append(CacheEntry(**{**vars_of(row), "digest": str(number), "tenant": tenant}))
        CacheEntry.objects.bulk_create(many)

        with CaptureQueriesContext(connection) as captured:
            shown = reader.get(ENTRIES).content.decode()

        offered = re.findall(r'"\?tenant=(\w+)"', shown)
        assert "often" in offered
        assert len(offered) == 20
        (asked,) = (query["sql"] for query in captured if re.match(r'SELECT "\w+"."tenant" AS', query["sql"]))
        assert f"LIMIT {NEWEST}" in asked

    def test_a_long_list_costs_as_many_queries_as_a_short_one(self, keeper: Client) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as captured:
                assert keeper.get(ENTRIES).status_code == 200
            return len(captured)

        kept(message("0"), "0")
        queries()
        few = queries()
        for number in range(1, 40):
            kept(message(str(number)), str(number), tenant=f"t{number % 7}", request=question("?"))
        assert len(rows(keeper.get(ENTRIES))) == 40
        assert queries() == few

    def test_it_reads_no_more_of_an_answer_than_it_shows(self, reader: Client) -> None:
        kept(message("x" * 1_000_000), request=question("y" * 1_000_000))
        with CaptureQueriesContext(connection) as captured:
            shown = rows(reader.get(ENTRIES))
        assert re.fullmatch("y{80,}… x{80,}…", shown[0][0])
        for query in captured:
            for column in ("payload", "request"):
                whole = re.sub(rf'SUBSTR\("\w+"."{column}", 1, {HEAD}\)', "", query["sql"]).split(" WHERE ")[0]
                assert f'"{column}"' not in whole


class TestAnEntrysPage:
    def test_it_shows_the_answer_as_people_read_it(self, reader: Client) -> None:
        tool = {"type": "tool_use", "id": "toolu_1", "name": "find_order", "input": {"customer": 42}}
        cited = {"type": "text", "text": "It is there.", "citations": [{"cited_text": "there"}]}
        thought = {"type": "thinking", "thinking": "Where is it?", "signature": "s"}
        row = kept(message(thought, cited, tool, {"type": "newest", "x": [1]}, 7, stop_reason="tool_use"))

        told = text(page_of(reader, row))

        assert "thinking Where is it? text It is there. It is there. citations" in told
        assert '"cited_text": "there"' in told
        assert 'tool_use: find_order { "customer": 42 }' in told
        assert 'newest { "type": "newest", "x": [ 1 ] } 7 ' in told
        assert "stop_reason tool_use" in told
        assert "input_tokens 12 output_tokens 34 cache_creation.ephemeral_5m_input_tokens 5" in told
        assert "request-id req_1" in told
        assert "content-type" not in told

    def test_it_shows_the_life_of_an_entry(self, reader: Client) -> None:
        row = kept(hits=1234, hit_at=timezone.now())
        told = text(page_of(reader, row))
        for words in (
            f"Key: {row.key}",
            "State: living",
            "Whose: acme",
            "Policy: default",
            "Cost: $0.0042",
            "Hits: 1234",
        ):
            assert words in told
        assert "Last hit: -" in text(page_of(reader, kept()))

    def test_a_value_that_is_remembered_is_shown_as_json(self, reader: Client) -> None:
        assert '{ "vector": [ 1, 2 ] }' in text(page_of(reader, kept({"vector": [1, 2]})))
        assert "Answer null " in text(page_of(reader, kept(b"null")))
        assert "Answer no JSON " in text(page_of(reader, kept(b"no JSON \xff")))

    def test_the_request_is_shown_where_it_is_kept(self, reader: Client) -> None:
        row = kept(request=question("Öl?"))
        assert '"content": "Öl?"' in text(page_of(reader, row))
        assert "It is not kept." in text(page_of(reader, kept()))
        broken = kept(request="x")
        CacheEntry.objects.filter(pk=broken.pk).update(request="no JSON")
        assert "Request no JSON" in text(page_of(reader, broken))

    def test_its_tags_lead_to_their_pages_where_one_may_see_them(self, reader: Client, staff: Staff) -> None:
        assert ask("zips?", "prices", "library.article") == "miss"
        (row,) = written()
        kept_only = kept(message("x"), "unlisted")
        index()
        pk = InvalidationTag.objects.get(tag="prices", everybody=False).pk

        assert f'<a href="{TAGS}{pk}/change/">prices</a>' in page_of(reader, row).content.decode()
        assert "library.article:*" not in text(page_of(reader, row))
        assert '<th scope="row">unlisted</th>' in page_of(reader, kept_only).content.decode()
        assert '<th scope="row">prices</th>' in page_of(staff("view_cacheentry"), row).content.decode()
        assert "No tag" in text(page_of(reader, kept()))

    @pytest.mark.parametrize(
        "evil",
        [
            message("</pre><script>alert(1)</script>", {"type": "<script>", "x": "<script>"}),
            message(
                {"type": "tool_use", "name": "<script>", "input": "<script>"}, id="<script>", usage={"<script>": 1}
            ),
            {"<script>": "<script>"},
            b"<script>",
            b'{"type": "message", "content": [{"type": "text", "text": "\\ud800"}], "id": "\\ud800"}',
            b'{"type": "message", "content": 7, "usage": 7, "id": {}}',
            b'{"type": "message", "content": ' + b"[" * 100_000,
            b'{"type": "message", "content": [' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"]}",
            b'{"type": "message", "content": [], "usage": ' + b'{"a":' * 500 + b"1" + b"}" * 501,
            b"9" * 5000,
        ],
    )
    def test_nothing_in_an_answer_executes_or_breaks_the_page(self, reader: Client, evil: Any) -> None:
        row = kept(evil, "<script>", tenant="<script>", model="<script>", request={"<script>": "<script>"})
        for page in (page_of(reader, row), reader.get(ENTRIES), reader.get(f"{ENTRIES}?tenant=%3Cscript%3E")):
            assert page.status_code == 200
            assert "<script>" not in re.sub(r'<script (src|id)="', "", page.content.decode())

    def test_a_long_answer_is_cut(self, reader: Client) -> None:
        told = text(page_of(reader, kept(message("x" * 60_000, "y" * 5))))
        assert "x" * 50_000 + " 10000 more characters are not shown." in told
        assert "5 more characters are not shown." in told
        assert "55 more blocks are not shown." in text(page_of(reader, kept(message(*["z"] * 255))))

    def test_an_unreadable_one_says_so(self, reader: Client) -> None:
        for payload in (b"", b"nonsense", b"\x02" + bytes(40), zlib.compress(b"x")):
            told = text(page_of(reader, kept(payload=payload)))
            assert "This answer cannot be read" in told
            assert "State: unreadable" in told

    def test_nothing_can_be_changed(self, staff: Staff) -> None:
        row = kept()
        client = staff(*(f"{verb}_cacheentry" for verb in ("view", "add", "change", "delete")))
        assert client.get(f"{ENTRIES}add/").status_code == 403
        assert client.post(f"{ENTRIES}{row.pk}/change/", {"model": "x"}).status_code == 403
        assert client.post(f"{ENTRIES}{row.pk}/delete/", {"post": "yes"}).status_code == 403
        client.post(ENTRIES, {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
        assert CacheEntry.objects.get().model == "claude-sonnet-5"


def select(client: Client, ids: list[int], **more: Any) -> Any:
    return client.post(ENTRIES, {"action": "purge", "_selected_action": ids, **more})


def confirm(client: Client, page: Any) -> Any:
    return client.post(PURGE_ENTRIES, hidden(page), follow=True)


class TestPurging:
    def test_what_would_die_is_shown_before_it_does(self, keeper: Client) -> None:
        keep(2, "prices")
        ids = [row.pk for row in written()]

        told = text(select(keeper, ids))

        assert "Purge these answers?" in told
        assert '{"answer": "1 of (\'prices\',)"} acme - 0' in told
        assert not Invalidation.objects.exists()
        assert ask("0 of ('prices',)", "prices") == "hit"

    def test_it_dies_in_redis_and_in_the_database_when_that_is_confirmed(self, keeper: Client) -> None:
        keep(2, "prices")
        keep(1, "prices", tenant="globex")
        keep(1, "prices", tenant=GLOBAL)
        doomed, _, *others = (row.pk for row in written())

        page = confirm(keeper, select(keeper, [doomed, others[1]]))

        assert "2 answers were purged: none of them is served any more." in text(page)
        assert sorted(CacheEntry.objects.values_list("pk", flat=True)) == sorted(
            {*range(doomed, doomed + 4)} - {doomed, others[1]}
        )
        assert ask("0 of ('prices',)", "prices") == "miss"
        assert ask("0 of ('prices',)", "prices", tenant=GLOBAL) == "miss"
        assert ask("1 of ('prices',)", "prices") == "hit"
        assert ask("0 of ('prices',)", "prices", tenant="globex") == "hit"

    def test_a_copy_that_is_written_late_stays_dead(self, keeper: Client) -> None:
        keep(1, "prices")
        (row,) = written()
        confirm(keeper, select(keeper, [row.pk]))
        row.save(force_insert=True)
        assert states(keeper) == ["purged"]
        assert ask("0 of ('prices',)", "prices") == "miss"

    def test_the_page_of_an_entry_leads_there_too(self, keeper: Client) -> None:
        keep(1, "prices")
        (row,) = written()
        assert f'href="{PURGE_ENTRIES}?id={row.pk}"' in page_of(keeper, row).content.decode()

        page = keeper.get(PURGE_ENTRIES, {"id": row.pk})

        assert "Purge this answer?" in text(page)
        assert "1 answer was purged: it is not served any more." in text(confirm(keeper, page))
        assert ask("0 of ('prices',)", "prices") == "miss"

    def test_all_that_the_filters_leave_can_be_purged_up_to_a_bound(self, keeper: Client) -> None:
        row = kept()
        many = [CacheEntry(**{**vars_of(row), "digest": str(number)}) for number in range(MOST)]
        CacheEntry.objects.bulk_create(many[:60])

        page = select(keeper, [row.pk], select_across="1")
        assert len(hidden(page)["id"]) == 61

        CacheEntry.objects.bulk_create(many[60:])
        assert select(keeper, [row.pk], select_across="1").status_code == 302
        told = text(keeper.get(ENTRIES))
        assert f"more than {MOST} answers at once. Narrow the list, or purge a tag" in told
        assert CacheEntry.objects.count() == MOST + 1

    def test_the_confirmed_is_written_down_as_the_users_deed(self, keeper: Client) -> None:
        row = kept()
        confirm(keeper, select(keeper, [row.pk]))
        entry = LogEntry.objects.get()
        assert (entry.object_id, entry.object_repr, entry.is_deletion()) == (str(row.pk), row.key[:12], True)
        assert entry.change_message == "Purged (acme)."

    def test_it_is_told_as_an_invalidation_of_one_answer_and_is_none_of_the_sites_tags(self, keeper: Client) -> None:
        keep(1, "prices")
        (row,) = written()
        confirm(keeper, select(keeper, [row.pk]))

        assert rows(keeper.get(INVALIDATIONS))[0][:2] == [f"one answer ({row.key[:12]})", "acme"]
        compact(-timedelta(days=1))
        index()
        ours = InvalidationTag.objects.get(tag__startswith="aicache:")
        assert "aicache:" not in text(keeper.get(TAGS))
        assert keeper.get(f"{TAGS}{ours.pk}/change/").status_code == 302
        assert ask("0 of ('prices',)", "prices") == "miss"

    @pytest.mark.parametrize("tenant", ["acme", GLOBAL, "t" * 300, "a stranger"])
    def test_without_redis_it_is_pending_and_a_drain_applies_it(self, keeper: Client, tenant: Any) -> None:
        keep(1, "prices", tenant=tenant)
        CacheEntry.objects.filter(tenant="a stranger").update(tenant="")
        (row,) = written()
        with without_redis():
            done = confirm(keeper, select(keeper, [row.pk]))
        assert "The purge of 1 answer is written, and pending: Redis is out of reach." in text(done)
        drain()
        assert ask("0 of ('prices',)", "prices", tenant=tenant) == "miss"

    def test_what_is_not_there_is_said_not_to_be(self, keeper: Client) -> None:
        for nonsense in ("x", "-1", "99", "9" * 18, "9" * 23, "²", ""):
            for page in (
                keeper.get(PURGE_ENTRIES, {"id": nonsense}, follow=True),
                keeper.post(PURGE_ENTRIES, {"id": nonsense, "confirmed": "yes"}, follow=True),
            ):
                assert "What was chosen is not there any more." in text(page), nonsense


class TestWhoMay:
    def test_the_right_to_look_is_no_right_to_purge(self, reader: Client) -> None:
        row = kept()
        for page in (reader.get(ENTRIES), page_of(reader, row)):
            assert PURGE_ENTRIES not in page.content.decode()
            assert 'value="purge"' not in page.content.decode()
        select(reader, [row.pk], confirmed="yes")
        assert reader.get(PURGE_ENTRIES, {"id": row.pk}).status_code == 403
        assert reader.post(PURGE_ENTRIES, {"id": row.pk, "confirmed": "yes"}).status_code == 403
        assert CacheEntry.objects.exists()

    def test_without_the_right_to_look_nothing_is_seen(self, staff: Staff) -> None:
        row = kept()
        for client in (staff(), staff("purge_entry", "purge_tag")):
            assert client.get(ENTRIES).status_code == 403
            assert page_of(client, row).status_code == 403
            assert client.get(PURGE_ENTRIES, {"id": row.pk}).status_code == 403

    def test_a_link_purges_nothing(self, keeper: Client) -> None:
        row = kept()
        keeper.get(PURGE_ENTRIES, {"id": row.pk, "confirmed": "yes"})
        assert CacheEntry.objects.exists()

    def test_another_sites_form_purges_nothing(self, keeper: Client) -> None:
        row = kept()
        strict = Client(enforce_csrf_checks=True)
        strict.cookies = keeper.cookies
        assert strict.post(PURGE_ENTRIES, {"id": row.pk, "confirmed": "yes"}).status_code == 403
        assert CacheEntry.objects.exists()


def test_in_another_language_and_without_time_zones_the_pages_still_work(keeper: Client) -> None:
    with override_settings(USE_TZ=False, TIME_ZONE="Asia/Tokyo"), translation.override("de"):
        row = kept(request=question("?"))
        assert keeper.get(ENTRIES).status_code == 200
        assert page_of(keeper, row).status_code == 200
        assert states(keeper) == ["living"]


def test_a_site_with_one_tenant_purges_its_own(keeper: Client) -> None:
    with override_settings(AICACHE={"NAMESPACE": get_settings().namespace, "SINGLE_TENANT": True}):
        assert ask("prices?", "prices", tenant=None) == "miss"
        (row,) = written()
        assert rows(keeper.get(ENTRIES))[0][2] == "the site's default"
        assert "By tenant" not in text(keeper.get(ENTRIES))
        with without_redis():
            confirm(keeper, select(keeper, [row.pk]))
        drain()
        assert ask("prices?", "prices", tenant=None) == "miss"


def vars_of(row: CacheEntry) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.fields if not field.primary_key}
