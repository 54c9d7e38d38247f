"""Whoever asks for Japanese is answered in Japanese, on each page and after each deed."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client, override_settings
from django.utils import timezone, translation

from aicache.cache import get_cache
from aicache.ledger.compaction import HOUR
from aicache.ledger.counts import MINUTE
from aicache.models import Hotspot, Invalidation, InvalidationTag, MetricBucket
from aicache.tenants import tenant_digest
from tests.admin.conftest import Staff
from tests.admin.kept import kept, message, pinned, question
from tests.admin.pages import ENTRIES, FORGET, INVALIDATIONS, KEYS, PURGE, PURGE_ENTRIES, RIGHT, TAGS, WRONG, text
from tests.admin.spoken import latin

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]

DASHBOARD = "/admin/aicache/metricbucket/"
CODES = {
    *("AI", "AICACHE", "CSV", "Celery", "Claude", "DURABLE", "Django", "Redis", "UTC"),
    *("aicache", "beat", "on", "variant", "vary"),
    # What the site has named, and Claude.
    *("acme", "default", "globex", "other", "prices", "shop"),
    "Search",  # of a picture in Django's own page, in no other language
    *("Select", "an", "option"),  # Django 6.1's own, of the list of actions
}
"""Names that are the same in every language."""


@pytest.fixture(autouse=True)
def languages(settings: Any) -> Iterator[None]:
    sessions, *others = settings.MIDDLEWARE
    settings.MIDDLEWARE = [sessions, "django.middleware.locale.LocaleMiddleware", *others]
    with translation.override("en"):  # the middleware leaves its language to whatever comes after
        yield


@pytest.fixture
def reader(staff: Staff) -> Client:
    client = staff(
        *("view_dashboard", "view_cacheentry", "view_idempotencykey", "view_invalidation", "view_invalidationtag"),
        *("view_content", "purge_entry", "purge_tag", "mark_wrong", "forget_key"),
    )
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = "ja"
    return client


def spoken_in_japanese(page: Any, *codes: str) -> str:
    said = text(page)
    assert 'lang="ja"' in page.content.decode()
    assert re.search(r"[ぁ-んァ-ン]", said)
    assert latin(page) - CODES - {*codes} - set(re.findall(r"\w+", page.wsgi_request.user.username)) == set()
    return said


def bucket(tenant: str = "acme", **figures: Any) -> None:
    fields = {"model": "claude-sonnet-5", "policy": "default", "owner": tenant_digest(tenant), "tenant": tenant}
    MetricBucket.objects.create(
        process="one", span=MINUTE, start=int(time.time()) // MINUTE * MINUTE, **{**fields, **figures}
    )


class TestTheDashboard:
    def test_without_calls(self, reader: Client) -> None:
        assert "この期間の呼び出しはありません" in spoken_in_japanese(reader.get(DASHBOARD))

    def test_with_all_that_it_can_show(self, reader: Client) -> None:
        bucket(
            **dict.fromkeys(("hit", "stale", "coalesced", "miss", "upstream_calls", "stale_blocked", "hit_2"), 2000),
            **dict.fromkeys(("unpriced", "unpriced_spent", "checked", "wrong", "writes", "redundant_writes"), 3),
            **dict.fromkeys(("saved_nano_usd", "spent_nano_usd", "redundant_nano_usd"), 7 * 10**9),
            **{"expired": 5, "late_1m": 4, "upstream_4": 20},
        )
        bucket(owner="", tenant="", unscoped=1, model="(others)", policy="(others)", expired=1)
        for kind in ("miss", "tag", "prefix"):
            whose = {"owner": tenant_digest("acme"), "tenant": "acme"}
            told = {"digest": "d" * 32, "label": "shop.product:42", "key": "4" * 64, "times": 2, "nano_usd": 10**9}
            Hotspot.objects.create(span=HOUR, start=int(time.time()) // HOUR * HOUR, kind=kind, **whose, **told)
        said = spoken_in_japanese(reader.get(DASHBOARD))
        for told in ("ヒット率", "純節約額", "75.0%", "1.5ミリ秒", "(所有者なし)", "(その他)", "3件の回答は単価不明"):
            assert told in said

    def test_with_all_its_troubles(self, reader: Client, aicache_memory: Any) -> None:
        Invalidation.objects.create(digest="d" * 32, tag="a", made_at=timezone.now() - timezone.timedelta(minutes=5))
        get_cache().store.switch(False)
        with override_settings(AICACHE={"TENANT": None}):
            said = spoken_in_japanese(reader.get(DASHBOARD))
        assert "1件の無効化が保留中です(最も古いもので5分)" in said
        assert "システムチェックaicache.W001で問題が見つかりました:" in said
        assert "サイト全体でキャッシュがオフになっています" in said

    def test_where_nothing_is_counted(self, reader: Client, settings: Any) -> None:
        class Nowhere:
            def allow_migrate(self, *_: Any, **__: Any) -> bool:
                return False

        settings.DATABASE_ROUTERS = [Nowhere()]
        assert "集計できません: サイトのデータベースルーターが" in text(reader.get(DASHBOARD))

    def test_who_has_no_name_is_found_by_what_stands_there(self, reader: Client) -> None:
        bucket(owner="", tenant="", unscoped=3)
        bucket(hit=1)
        page = reader.get(DASHBOARD, {"tenant": "(所有者なし)"})
        assert 'value="(所有者なし)"' in page.content.decode()
        assert page.context["series"]["calls"]["other"][-1] == 3
        assert "tenant=%28nobody%29" in reader.get(DASHBOARD).content.decode()

    def test_as_a_spreadsheet(self, reader: Client) -> None:
        bucket(hit=1)
        head, *_ = csv.reader(io.StringIO(reader.get(f"{DASHBOARD}export/").content.decode("utf-8-sig")))
        assert head[:4] == ["テナント", "呼び出し", "ヒット率", "純節約額"]


class TestAnswers:
    def test_are_listed(self, reader: Client) -> None:
        kept(message("はい。"), "shop.product:42", request=question("いいですか?"))
        kept(message("いいえ。"), tenant="globex", life=-5.0)
        said = spoken_in_japanese(reader.get(ENTRIES))
        for told in ("残り59分", "期限切れ", "有効", "$0.0042", "選択した回答をパージ…"):
            assert told in said

    def test_have_a_page(self, reader: Client) -> None:
        row = kept(
            message("はい。", {"type": "text", "text": "長" * 60_000}), "prices", request=question("いいですか?")
        )
        kept(message("はい!"), "shop.product:42", question=row.question, sources=[["shop.product:42", "1"]])
        Invalidation.objects.create(
            digest="d" * 32,
            tag="prices",
            tenant="acme",
            cause="shop",
            made_at=timezone.now(),
            applied_at=timezone.now(),
        )
        of_claude = ("content", "id", "messages", "model", "role", "text", "user")
        said = spoken_in_japanese(reader.get(f"{ENTRIES}{row.pk}/change/"), *of_claude)
        for told in (
            "キーの構成",
            "付いているタグ",
            "この回答にのみあります、shop.product:42: もう一方の回答に",
            "文字あります",
        ):
            assert told in said

    def test_that_may_not_be_read_say_so(self, staff: Staff) -> None:
        client = staff("view_cacheentry")
        client.defaults["HTTP_ACCEPT_LANGUAGE"] = "ja"
        assert "閲覧するには" in spoken_in_japanese(client.get(f"{ENTRIES}{kept().pk}/change/"))

    @pytest.mark.parametrize(
        ("deed", "asked", "told"),
        [
            (PURGE_ENTRIES, "この回答をパージしますか?", "1件の回答をパージしました。今後は返されません。"),
            (WRONG, "この回答を誤りとしますか?", "1件の回答を誤りとしました。今後は返されません。"),
            (RIGHT, "この回答を正しいとしますか?", "1件の回答を正しいとしました。"),
        ],
    )
    def test_are_done_away_with_or_kept(
        self, reader: Client, aicache_memory: Any, deed: str, asked: str, told: str
    ) -> None:
        row = kept(message("はい。"))
        page = reader.get(deed, {"id": row.pk})
        assert asked in spoken_in_japanese(page)
        sent = {"id": row.pk, "made": dict(page.context["hidden"]).get("made", ""), "confirmed": "yes"}
        assert told in spoken_in_japanese(reader.post(deed, sent, follow=True))

    def test_that_are_gone_are_told(self, reader: Client) -> None:
        assert "選択されたものはもう存在しません。" in spoken_in_japanese(
            reader.get(PURGE_ENTRIES, {"id": 1}, follow=True)
        )


class TestTagsAndInvalidations:
    @pytest.fixture(autouse=True)
    def tag(self) -> InvalidationTag:
        Invalidation.objects.create(digest="d" * 32, tag="prices", tenant="acme", made_at=timezone.now())
        return InvalidationTag.objects.create(digest="d" * 32, tag="prices", tenant="acme", seen_at=timezone.now())

    @pytest.mark.parametrize(
        ("place", "told"),
        [
            (TAGS, "最終無効化"),
            (PURGE, "1行ならshop.product:42"),
            (INVALIDATIONS, "1件の無効化が保留中です"),
            ("/admin/", "AIキャッシュ"),
            ("/admin/aicache/", "冪等キー"),
        ],
    )
    def test_are_shown(self, reader: Client, place: str, told: str) -> None:
        assert told in spoken_in_japanese(reader.get(place))

    def test_have_pages(self, reader: Client, tag: InvalidationTag) -> None:
        assert "世代" in spoken_in_japanese(reader.get(f"{TAGS}{tag.pk}/change/"))
        assert "遅延" in spoken_in_japanese(reader.get(f"{INVALIDATIONS}{Invalidation.objects.get().pk}/change/"))

    def test_what_was_forgotten_in_the_form_is_told(self, reader: Client) -> None:
        said = spoken_in_japanese(reader.post(PURGE, {"tag": "prices", "whose": "tenant"}))
        assert "テナントを指定するか、全テナント共通を選択してください。" in said

    def test_are_purged(self, reader: Client, aicache_memory: Any) -> None:
        named = {"tag": "prices", "whose": "tenant", "tenant": "acme"}
        assert "このタグをパージしますか?" in spoken_in_japanese(reader.post(PURGE, named))
        said = spoken_in_japanese(reader.post(PURGE, {**named, "confirmed": "yes"}, follow=True))
        assert "1件のタグをパージしました。" in said


class TestKeys:
    def test_are_listed_shown_and_forgotten(self, reader: Client) -> None:
        answered, open_ = pinned("shop", message("はい。")), pinned("prices", held_until=timezone.now())
        assert "回答済み" in spoken_in_japanese(reader.get(KEYS))
        for row in (answered, open_):
            assert "冪等キー" in spoken_in_japanese(reader.get(f"{KEYS}{row.pk}/change/"), "id", "text", "k" * 64)
        assert "これらのキー" in spoken_in_japanese(reader.get(FORGET, {"id": answered.pk}))
        said = spoken_in_japanese(reader.post(FORGET, {"id": answered.pk, "confirmed": "yes"}, follow=True))
        assert "1件のキーを破棄しました。" in said
