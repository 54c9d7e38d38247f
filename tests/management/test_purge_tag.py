from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

import aicache
from aicache.conf import get_settings
from aicache.core.tags import Tag
from aicache.management.commands import purge_tag
from aicache.models import Invalidation, InvalidationTag
from aicache.store import Store, tags
from aicache.tenants import tenant_digest
from tests.answers import ask, index, keep, without_redis
from tests.freshness.far import far

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]

LONG_TAG = "é" * 101


def told(*words: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("purge_tag", *words, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


def purge(*words: str) -> str:
    out, err = told(*words)
    assert err == ""
    return out


def names() -> list[str]:
    return list(Invalidation.objects.values_list("tag", flat=True).order_by("tag"))


def site(**chosen: Any) -> Any:
    return override_settings(AICACHE={"NAMESPACE": get_settings().namespace, **chosen})


def test_it_says_how_many_answers_hang_on_a_tag_and_lets_them_die() -> None:
    keep(3, "prices")
    keep(1, "refunds")

    out = purge("prices", "--tenant", "acme")

    assert out.splitlines() == [
        "Purged: no answer that hung on these tags is served any more.",
        "3  prices",
        "3  answers in all, of 'acme'",
    ]
    assert ask("0 of ('prices',)", "prices") == "miss"
    assert ask("0 of ('refunds',)", "refunds") == "hit"


def test_a_dry_run_says_the_same_and_lets_them_live() -> None:
    keep(2, "prices")

    out = purge("prices", "--tenant", "acme", "--dry-run")

    assert "2  prices" in out
    assert "Nothing was purged" in out
    assert ask("0 of ('prices',)", "prices") == "hit"
    assert names() == []


def test_several_tags_are_purged_as_one() -> None:
    keep(2, "prices")
    keep(1, "refunds")
    keep(1, "prices", "refunds")

    out = purge("prices", "refunds", "prices", "--tenant", "acme")

    assert out.splitlines()[1:] == [
        "3  prices",
        "2  refunds",
        "5  answers in all, of 'acme'; one that hangs on two of these counts twice",
    ]
    assert names() == ["prices", "refunds"]


def test_another_tenants_answers_live_on() -> None:
    keep(1, "prices", tenant="acme")
    keep(1, "prices", tenant="globex")

    purge("prices", "--tenant", "acme")

    assert ask("0 of ('prices',)", "prices", tenant="acme") == "miss"
    assert ask("0 of ('prices',)", "prices", tenant="globex") == "hit"


def test_everybodys_answers_die_by_one_row() -> None:
    keep(1, "prices", tenant="acme")
    keep(2, "prices", tenant="globex")

    out = purge("prices", "--all-tenants")

    assert "3  answers in all, everybody's" in out
    assert ask("0 of ('prices',)", "prices", tenant="acme") == "miss"
    assert ask("0 of ('prices',)", "prices", tenant="globex") == "miss"
    assert Invalidation.objects.get().everybody


def test_a_purge_is_a_row_that_says_what_has_been_applied() -> None:
    purge("prices", "--tenant", "acme")

    row = Invalidation.objects.get()
    assert (row.tag, row.tenant, row.everybody) == ("prices", "acme", False)
    assert row.applied_at is not None


@pytest.mark.parametrize("name", ["price*", "price?", "price[s]"])
def test_what_looks_like_a_glob_must_be_meant_as_one(name: str) -> None:
    with pytest.raises(CommandError, match=re.escape(name) + " looks like a glob.*add --pattern"):
        purge(name, "--tenant", "acme")
    assert names() == []


def test_a_glob_purges_the_names_in_use_that_it_matches_and_lists_them() -> None:
    for name in ("price:1", "price:2", "refund:1"):
        keep(1, name)
    keep(1, "price:3", tenant="globex")

    out = purge("price:*", "--pattern", "--tenant", "acme")

    assert "price:* matches 2 of the tags in use" in out
    assert names() == ["price:1", "price:2"]
    assert ask("0 of ('refund:1',)", "refund:1") == "hit"
    assert ask("0 of ('price:3',)", "price:3", tenant="globex") == "hit"


def test_everybodys_glob_matches_every_tenants_names() -> None:
    keep(1, "price:1", tenant="acme")
    keep(1, "price:2", tenant="globex")

    purge("price:[12]", "--pattern", "--all-tenants")

    assert names() == ["price:1", "price:2"]
    assert ask("0 of ('price:2',)", "price:2", tenant="globex") == "miss"


def test_a_glob_matches_what_only_the_database_knows() -> None:
    acme = tenant_digest("acme")
    now = timezone.now()
    InvalidationTag.objects.create(digest=Tag("price:8", acme).digest, tag="price:8", tenant="acme", seen_at=now)
    Invalidation.objects.create(digest=Tag("price:9", acme).digest, tag="price:9", tenant="acme", made_at=now)
    Invalidation.objects.create(digest="another's", tag="price:7", tenant="acme", made_at=now)

    out, err = told("price:*", "--pattern", "--tenant", "acme", "--dry-run")

    assert [line.split()[-1] for line in out.splitlines()[1:3]] == ["price:8", "price:9"]
    assert "matches 2" in out
    with without_redis():
        out, err = told("price:*", "--pattern", "--tenant", "acme", "--dry-run")
    assert "only the names that the database knows" in err
    assert "matches 2" in out


def test_a_models_name_stands_for_that_of_its_every_row() -> None:
    keep(1, "shop.product", "shop.product:*")
    out = purge("shop.*", "--pattern", "--tenant", "acme")
    assert "matches 1" in out
    assert names() == ["shop.product"]


def test_a_glob_that_matches_nothing_purges_nothing() -> None:
    out = purge("price:*", "--pattern", "--tenant", "acme")
    assert "No tag in use matches. Nothing was purged." in out
    assert names() == []


def test_nobody_says_whose_they_are() -> None:
    with pytest.raises(CommandError, match=r"nobody says whose .*--tenant T.*--all-tenants"):
        purge("prices")


@pytest.mark.parametrize("given", [{"tenant": "acme", "all_tenants": True}, {"tenant": ""}])
def test_whose_they_are_is_said_once_and_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(CommandError, match=r"tenant is .*; accepted: "):
        call_command("purge_tag", "prices", **given)
    with pytest.raises(CommandError, match="not allowed with"):
        purge("prices", "--tenant", "acme", "--all-tenants")


def test_a_site_with_one_tenant_need_not_name_it() -> None:
    with site(SINGLE_TENANT=True):
        assert ask("prices?", "prices", tenant=None) == "miss"
        out = purge("prices")
        assert "1  answers in all\n" in out
        assert ask("prices?", "prices", tenant=None) == "miss"
        with pytest.raises(CommandError, match="SINGLE_TENANT: name no tenant"):
            purge("prices", "--tenant", "acme")


def test_the_sites_own_function_may_say_whose_they_are() -> None:
    with site(TENANT=lambda: "acme"):
        keep(1, "prices")
        assert "of 'acme'" in purge("prices")
        assert ask("0 of ('prices',)", "prices") == "miss"
    with site(TENANT=lambda request: "acme"), pytest.raises(CommandError, match="nobody says"):
        purge("prices")


@pytest.mark.parametrize("name", ["", LONG_TAG])
@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_a_name_that_cannot_be_a_tag_is_an_error(name: str, dry: list[str]) -> None:
    with pytest.raises(CommandError, match="accepted: 1 to 200 bytes"):
        purge("prices", name, "--tenant", "acme", *dry)
    assert names() == []


def test_without_redis_the_purge_is_written_and_pending_and_no_failure() -> None:
    keep(1, "prices")
    with without_redis():
        out, err = told("prices", "--tenant", "acme")

    assert "?  answers in all, of 'acme'; they cannot be counted while Redis is out of reach" in out
    assert "pending: Redis is out of reach" in err
    assert Invalidation.objects.get().applied_at is None
    call_command("drain_invalidations", stdout=StringIO())
    assert ask("0 of ('prices',)", "prices") == "miss"


def test_a_second_time_inside_a_transaction_it_holds_when_that_has_committed_too() -> None:
    with transaction.atomic():
        for _ in range(2):
            assert "in force when the transaction that is open around this" in purge("prices", "--tenant", "acme")
    assert "no answer that hung on these tags" in purge("prices", "--tenant", "acme")


@pytest.mark.parametrize("fails", [False, True])
def test_inside_a_transaction_it_holds_when_that_has_committed(fails: bool) -> None:
    keep(1, "prices")
    with pytest.raises(ZeroDivisionError) if fails else nullcontext(), transaction.atomic():
        out, err = told("prices", "--tenant", "acme")
        assert "in force when the transaction that is open around this has committed" in out
        assert err == ""
        if fails:
            raise ZeroDivisionError
    assert ask("0 of ('prices',)", "prices") == ("hit" if fails else "miss")


def test_it_kills_before_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting takes time, and meanwhile a wrong answer would be served."""
    keep(2, "prices")
    served: list[str] = []
    counts = Store.counts

    def slow(*given: Any) -> list[int]:
        served.append(ask("0 of ('prices',)", "prices"))
        return counts(*given)

    monkeypatch.setattr(Store, "counts", slow)
    out = purge("prices", "--tenant", "acme")
    assert served == ["miss"]
    assert "1  prices" in out  # the other was made anew meanwhile


def test_many_are_counted_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "MANY", 3)
    monkeypatch.setattr(purge_tag, "MANY", 3)
    keep(3, "prices")
    keep(2, "refunds")

    out = purge("prices", "refunds", "--tenant", "acme")

    assert out.splitlines()[1:] == [
        "3  prices",
        "2  refunds",
        "5  answers in all, of 'acme'; one that hangs on two of these counts twice; from 3 on a number is about right",
    ]


class Gone(StringIO):
    """The other end of a pipe has been closed."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("words", [("prices",), ("pri*", "--pattern")])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("away", [False, True])
def test_nobody_who_reads_what_it_says_is_no_reason_not_to_purge(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], stream: str, closed: bool, away: bool
) -> None:
    keep(1, "prices")
    index()
    with without_redis() if away else nullcontext():
        if closed:
            monkeypatch.setattr(sys, stream, None)
            call_command("purge_tag", *words, tenant="acme")
        else:
            other = "stderr" if stream == "stdout" else "stdout"
            call_command("purge_tag", *words, tenant="acme", **{stream: Gone(), other: StringIO()})
        monkeypatch.undo()

    assert names() == ["prices"]
    if not away:
        assert ask("0 of ('prices',)", "prices") == "miss"


def test_everybodys_is_said_with_yes_or_no() -> None:
    with pytest.raises(CommandError, match="all_tenants is 'false'; accepted: True or False"):
        call_command("purge_tag", "prices", all_tenants="false")
    assert names() == []


def test_global_answers_are_everybodys() -> None:
    keep(1, "prices", tenant=aicache.GLOBAL)
    assert "1  answers in all, everybody's" in purge("prices", "--all-tenants")
    assert ask("0 of ('prices',)", "prices", tenant=aicache.GLOBAL) == "miss"


def test_it_says_of_which_database_a_pattern_matches_nothing(tmp_path: Path) -> None:
    keep(1, "prices")
    with far("refuses", tmp_path) as alias:
        out, err = told("pri*", "--pattern", "--tenant", "acme")
    assert err == f"the database {alias!r} does not answer: the names that it alone knows were not matched.\n"
    assert "1  prices" in out
