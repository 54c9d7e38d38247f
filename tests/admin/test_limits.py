"""Whoever is limited to some tenants sees, counts and purges what is theirs, by whatever address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.test import Client, RequestFactory

from aicache import GLOBAL
from aicache.admin import EntryAdmin
from aicache.admin.judging import version
from aicache.core.tags import OURS, Tag
from aicache.ledger import counting
from aicache.models import CacheEntry, IdempotencyKey, Invalidation, InvalidationTag
from aicache.tenants import tenant_digest
from tests.admin.conftest import Staff
from tests.admin.limits import LISTS, Belongings, everything, limited_to
from tests.admin.pages import (
    ENTRIES,
    FORGET,
    INVALIDATIONS,
    KEYS,
    PURGE,
    PURGE_ENTRIES,
    RIGHT,
    TAGS,
    WRONG,
    hidden,
    rows,
    text,
)
from tests.answers import ask, index, keep

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]

DEEDS = {ENTRIES: (PURGE_ENTRIES, WRONG, RIGHT), KEYS: (FORGET,), TAGS: (PURGE,), INVALIDATIONS: ()}
ALL = ("cacheentry", "idempotencykey", "invalidation", "invalidationtag")
CONFIRMED = {"confirmed": "yes"}

Visit = tuple[str, str, dict[str, Any]]


@pytest.fixture
def boss(staff: Staff) -> Client:
    """Has every right of the app."""
    return staff(
        *(f"{verb}_{model}" for verb in ("view", "add", "change", "delete") for model in ALL),
        "view_content",
        "purge_entry",
        "purge_tag",
        "forget_key",
        "mark_wrong",
    )


def looks(one: Belongings) -> Iterator[Visit]:
    """At lists, however they are searched, narrowed and ordered, without naming it."""
    part = one.name[1:-1]
    for address in LISTS:
        for query in (
            {},
            {"all": ""},
            {"p": "2"},
            {"_popup": "1"},
            {"_facets": "True"},
            *({"o": number} for number in ("1", "-2.3", "4.5")),
            *({"q": words} for words in (part, "tag", "key", "e")),
            *({"whose": whose} for whose in ("everybody", "tenant")),
            *({"db": alias} for alias in ("default", "other")),
            *({"state": state} for state in ("pending", "applied", "answered", "unanswered", "expired")),
            *({"life": life} for life in ("on", "over")),
            *({f"{name}__contains": part} for name in ("tenant", "tag", "model", "name", "policy", "key")),
            *({name: digest} for digest in one.digests() for name in ("digest", "owner")),
            *({"id": pk} for pk in one.ids[address]),
            {"everybody__exact": "1"},
            {"everybody": "True"},
        ):
            yield "get", address, query
    yield from (("get", address, {}) for address in ("/admin/", "/admin/aicache/"))


def reaches(one: Belongings) -> Iterator[Visit]:
    """For its very rows, with whatever is posted there."""
    for address, pks in one.ids.items():
        for pk in pks:
            for view in ("change", "history", "delete"):
                yield "get", f"{address}{pk}/{view}/", {}
                yield "post", f"{address}{pk}/{view}/", {"post": "yes", "tenant": "acme", **CONFIRMED}
            yield "get", f"{address}{pk}/", {}
        made = [version(row) for row in CacheEntry.objects.filter(pk__in=pks)]
        for given in ({}, {**CONFIRMED, "made": made}):
            for deed in DEEDS[address]:
                for database in ("", "default", "other"):
                    yield "get", deed, {"id": pks, "db": database, **given}
                    yield "post", deed, {"id": pks, "db": database, **given}
        for action in ("purge", "forget", "wrong", "right", "delete_selected"):
            for across in ("0", "1"):
                for given in ({}, {**CONFIRMED, "made": made}, {"post": "yes"}):
                    chosen = {"action": action, "_selected_action": pks, "select_across": across, "index": "0"}
                    yield "post", f"{address}?db=default", {**chosen, **given}


def forgeries(one: Belongings) -> Iterator[Visit]:
    """Of the form to purge any tag."""
    tenant = one.tenant if isinstance(one.tenant, str) else ""
    for whose in ({"whose": "tenant"}, {"whose": "everybody"}, {"whose": ""}, {}):
        for named in ({"tenant": tenant}, {"tenant": ""}, {}, {"tenant": tenant_digest(one.tenant)}):
            for given in ({}, CONFIRMED, {"all_tenants": "1", **CONFIRMED}):
                yield "post", PURGE, {"tag": f"{one.name}-tag", **whose, **named, **given}


def visit(client: Client, where: Visit) -> Any:
    method, address, given = where
    return getattr(client, method)(address, given)


def said(response: Any) -> str:
    """All that comes back, and what the next page would say."""
    told = [str(message) for message in get_messages(response.wsgi_request)]
    headers = [f"{name}: {value}" for name, value in response.headers.items()]
    return "\n".join([response.content.decode(), *headers, *told])


def led_to(response: Any) -> dict[str, set[int]]:
    """The rows that a page names, by the address of their list."""
    found: dict[str, set[int]] = {}
    page = response.content.decode()
    for address, pk in re.findall(r'href="(/admin/aicache/\w+/)(\d+)/', page):
        found.setdefault(address, set()).add(int(pk))
    here = response.wsgi_request.path
    boxes = "_selected_action" if here in LISTS else "id"
    for pk in re.findall(rf'name="{boxes}" value="(\d+)"', page):
        found.setdefault("/".join(here.split("/")[:4]) + "/", set()).add(int(pk))
    return found


def untouched(*others: Belongings) -> None:
    for one in others:
        for address, model in LISTS.items():
            assert model.objects.filter(pk__in=one.ids[address]).count() == len(one.ids[address])
        owner = tenant_digest(one.tenant)
        for name in (f"{each.name}-{kind}" for each in others for kind in ("tag", "pending", "dead")):
            died = Invalidation.objects.filter(digest=Tag(name, owner).digest)
            assert not died.exclude(pk__in=one.ids[INVALIDATIONS]).exists(), (one.name, name)
        assert one.asked() == "hit"
    assert not Invalidation.objects.filter(tag__startswith=OURS).exclude(tenant="acme").exists()


def test_no_address_shows_or_does_anything_of_another_tenant_or_of_everybodys(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[str] = []
    monkeypatch.setattr(counting, "judged", lambda *, owner, **told: judged.append(owner))
    _, *others = everything()
    with limited_to("acme"):
        for one in others:
            # What a request itself says is echoed, as by a box to search in.
            for where in (*looks(one), *reaches(one)):
                response = visit(boss, where)
                assert response.status_code in (200, 302, 400, 403, 404), where
                for other in others:
                    assert other.name not in said(response), where
                    for address, pks in led_to(response).items():
                        assert not pks & set(other.ids[address]), where
            for where in forgeries(one):
                response = visit(boss, where)
                assert "Purge a tag" in text(response), where
    untouched(*others)
    assert set(judged) <= {tenant_digest("acme")}
    assert not Invalidation.objects.filter(tag__in=["globex-tag", "shared-tag"]).exists()


def test_the_same_addresses_show_it_to_whoever_is_not_limited(boss: Client) -> None:
    """So that the test above does look."""
    _, globex, _ = everything()
    seen = [where for where in (*looks(globex), *reaches(globex)) if globex.name in said(visit(boss, where))]
    assert len(seen) > 40
    assert {address for _, address, _ in seen} > {*LISTS, *(deed for deeds in DEEDS.values() for deed in deeds)}


def test_what_is_ones_own_is_all_there(boss: Client) -> None:
    own, *_ = everything()
    with limited_to("acme"):
        for address, pks in own.ids.items():
            page = boss.get(address)
            assert led_to(page)[address] == set(pks)
            assert len(rows(page)) == len(pks)
            assert f"{len(pks)} " in text(page).split("Action:")[-1]
            for pk in pks:
                assert "acme" in text(boss.get(f"{address}{pk}/change/"))
                assert "acme deed" in text(boss.get(f"{address}{pk}/history/"))
        told = text(boss.get(INVALIDATIONS))
        assert "1 invalidation is pending" in told
        assert "By whose" not in told
        assert "By tenant All" not in text(boss.get(ENTRIES))  # where there is one, there is nothing to choose


def test_the_pending_ones_of_others_are_not_counted(boss: Client) -> None:
    everything()
    assert "3 invalidations are pending" in text(boss.get(INVALIDATIONS))
    with limited_to("acme", "globex"):
        assert "2 invalidations are pending" in text(boss.get(INVALIDATIONS))
    with limited_to():
        assert "pending, for" not in text(boss.get(INVALIDATIONS))


def test_filters_offer_what_is_in_sight(boss: Client) -> None:
    everything()
    with limited_to("acme", "globex"):
        shown = text(boss.get(ENTRIES))
    assert "By tenant All acme globex By" in shown
    assert "By model All acme-model globex-model By" in shown
    assert "By policy All acme-policy default globex-policy" in shown
    with limited_to("acme", GLOBAL):
        assert "By whose All everybody's one tenant's" in text(boss.get(ENTRIES))


def test_with_everybodys_those_are_seen_too(boss: Client) -> None:
    own, globex, shared = everything()
    with limited_to("acme", GLOBAL):
        for address in LISTS:
            found = led_to(boss.get(address, {"all": ""}))[address]
            assert found == {*own.ids[address], *shared.ids[address]}
            assert not found & set(globex.ids[address])


def test_who_sees_nobodys_rows_sees_none(boss: Client) -> None:
    everything()
    with limited_to():
        for address in LISTS:
            assert rows(boss.get(address)) == []
        for deeds in DEEDS.values():
            assert [boss.get(deed).status_code for deed in deeds] == [403] * len(deeds)


def test_one_who_fails_to_be_told_whose_they_may_see_is_told_so(boss: Client, caplog: pytest.LogCaptureFixture) -> None:
    everything()
    with limited_to(("not", "a tenant")):
        page = boss.get(ENTRIES)
    assert rows(page) == []
    assert text(page).count("could not be told, so none are shown") == 1
    assert "STAFF_TENANTS" in caplog.text


@pytest.mark.urls("tests.admin.backstage")
def test_superusers_are_asked_about_too(transactional_db: None) -> None:
    everything()
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    for address in (address.replace("admin", "backstage") for address in LISTS):
        with limited_to("acme"):
            assert "globex" not in client.get(address).content.decode()
        assert "globex" in client.get(address).content.decode()


def test_rows_of_another_database_are_limited_likewise(boss: Client) -> None:
    made = {"made_at": "2026-01-01T00:00:00Z"}
    for tenant in ("acme", "globex"):
        tag = Tag("prices", tenant_digest(tenant))
        row = {"digest": tag.digest, "tag": "prices", "tenant": tenant}
        Invalidation.objects.using("other").create(**row, **made)
        InvalidationTag.objects.using("other").create(pk=70 + len(tenant), **row, seen_at=made["made_at"])
    with limited_to("acme"):
        for address in (TAGS, INVALIDATIONS):
            assert [row[:2] for row in rows(boss.get(address, {"db": "other"}))] == [["prices", "acme"]]
        assert "1 invalidation is pending" in text(boss.get(INVALIDATIONS))
        assert "Purge a tag" in text(boss.get(PURGE, {"db": "other", "id": "76"}))
        assert "Purge this tag?" in text(boss.get(PURGE, {"db": "other", "id": "74"}))


def test_autocompletion_of_a_sites_own_forms_is_limited_likewise(boss: Client) -> None:
    everything()

    class Completed(AutocompleteJsonView):
        def process_request(self, request: Any) -> Any:
            return "e", EntryAdmin(CacheEntry, self.admin_site), Unlimited, "id"

    class Unlimited:
        @staticmethod
        def get_limit_choices_to() -> dict[str, Any]:
            return {}

    from django.contrib.admin import site

    request = RequestFactory().get("/")
    request.user = User.objects.get(pk=boss.session["_auth_user_id"])
    with limited_to("acme"):
        told = Completed.as_view(admin_site=site)(request).content.decode()
    found = {int(pk) for pk in re.findall(r'"id": "(\d+)"', told)}
    assert found == set(CacheEntry.objects.filter(tenant="acme").values_list("pk", flat=True))


class TestPurgingAnyTag:
    def test_is_no_right_to_look_which_there_are(self, staff: Staff) -> None:
        own, *_ = everything()
        client = staff("purge_tag")
        for page in (client.get(PURGE, {"id": own.ids[TAGS]}), client.post(PURGE, {"id": own.ids[TAGS], **CONFIRMED})):
            assert "Purge a tag" in text(page)
            assert own.name not in said(page)
        untouched(own)
        assert "acme-tag" in text(client.post(PURGE, {"tag": "acme-tag", "whose": "tenant", "tenant": "acme"}))

    def test_one_chooses_among_ones_tenants(self, boss: Client) -> None:
        with limited_to("globex", "acme"):
            page = boss.get(PURGE).content.decode()
        assert re.findall(r'<option value="(\w*)"', page) == ["", "acme", "globex"]
        assert "everybody" not in page
        with limited_to("acme", GLOBAL):
            page = boss.get(PURGE).content.decode()
        assert re.findall(r'<option value="(\w*)"', page) == ["", "acme"]
        assert re.findall(r'name="whose" value="(\w+)"', page) == ["tenant", "everybody"]
        with limited_to(GLOBAL):
            page = boss.get(PURGE).content.decode()
        assert "<option" not in page
        assert re.findall(r'name="whose" value="(\w+)"', page) == ["everybody"]

    @pytest.mark.parametrize("whose", [{}, {"whose": "tenant"}])
    def test_ones_own_dies_and_nobody_elses(self, boss: Client, whose: dict[str, str]) -> None:
        for tenant in ("acme", "globex", GLOBAL):
            keep(1, "library.article", tenant=tenant)
        with limited_to("acme"):
            page = boss.post(PURGE, {"tag": "library.article", "tenant": "acme", **whose})
            assert "library.article acme 1" in text(page)
            done = boss.post(PURGE, hidden(page), follow=True)
        assert "1 tag was purged" in text(done)
        assert ask("0 of ('library.article',)", "library.article") == "miss"
        for tenant in ("globex", GLOBAL):
            assert ask("0 of ('library.article',)", "library.article", tenant=tenant) == "hit"
        (died,) = Invalidation.objects.all()
        assert (died.digest, died.everybody) == (Tag("library.article", tenant_digest("acme")).digest, False)

    def test_everybodys_dies_of_those_alone_who_may_see_it(self, boss: Client) -> None:
        keep(1, "prices", tenant="globex")
        given = {"tag": "prices", "whose": "everybody", **CONFIRMED}
        with limited_to("acme", "globex"):
            page = boss.post(PURGE, given)
        assert "Purge a tag" in text(page)
        assert not Invalidation.objects.exists()
        with limited_to("acme", GLOBAL):
            assert "1 tag was purged" in text(boss.post(PURGE, given, follow=True))
        assert ask("0 of ('prices',)", "prices", tenant="globex") == "miss"

    @pytest.mark.parametrize("tenant", ["t" * 300, " ", "with, a 'quote\""])
    def test_a_tenant_of_any_name_is_chosen(self, boss: Client, tenant: str) -> None:
        keep(1, "prices", tenant=tenant)
        with limited_to(tenant):
            page = boss.post(PURGE, {"tag": "prices", "tenant": tenant})
            assert "1 tag was purged" in text(boss.post(PURGE, hidden(page), follow=True))
        assert ask("0 of ('prices',)", "prices", tenant=tenant) == "miss"


def test_all_that_a_search_finds_is_purged_of_ones_own_only(boss: Client) -> None:
    for tenant in ("acme", "globex"):
        keep(1, "shop.article:1", "shop.article:2", tenant=tenant)
    index()
    with limited_to("acme"):
        chosen = {"action": "purge", "select_across": "1", "_selected_action": "1"}
        page = boss.post(f"{TAGS}?q=shop.article", chosen)
        assert "2 tags were purged" in text(boss.post(PURGE, hidden(page), follow=True))
    of_acme = {Tag(name, tenant_digest("acme")).digest for name in ("shop.article:1", "shop.article:2")}
    assert set(Invalidation.objects.values_list("digest", flat=True)) == of_acme


def test_a_tag_of_a_tenant_whose_name_was_cut_is_seen_and_purged_by_its_own_staff(boss: Client) -> None:
    mine, other = "x" * 255 + "a", "x" * 255 + "b"
    for tenant in (mine, other):
        keep(1, "prices", tenant=tenant)
    index()
    with limited_to(mine):
        (row,) = rows(boss.get(TAGS))
        assert row[:3] == ["prices", "x" * 255, "1"]
        (pk,) = led_to(boss.get(TAGS))[TAGS]
        page = boss.get(PURGE, {"id": pk})
        boss.post(PURGE, hidden(page))
        assert [row[:2] for row in rows(boss.get(INVALIDATIONS))] == [["prices", "unknown"]]
    with limited_to(other):
        assert rows(boss.get(INVALIDATIONS)) == []
    assert ask("0 of ('prices',)", "prices", tenant=mine) == "miss"
    assert ask("0 of ('prices',)", "prices", tenant=other) == "hit"


def test_keys_of_others_are_not_forgotten(boss: Client) -> None:
    _, globex, _ = everything()
    with limited_to("acme"):
        boss.post(FORGET, {"id": globex.ids[KEYS], **CONFIRMED})
        chosen = {"action": "forget", "select_across": "1", "_selected_action": "1"}
        page = boss.post(KEYS, chosen)
        boss.post(FORGET, hidden(page))
    assert sorted(IdempotencyKey.objects.values_list("name", flat=True)) == ["globex-key", "shared-key"]
