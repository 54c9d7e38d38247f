"""Which entries a list is narrowed to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone

from tests.admin.kept import kept
from tests.admin.limits import LISTS, limited_to
from tests.admin.pages import ENTRIES, rows, text
from tests.answers import ask

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]


def found(client: Client, **query: Any) -> list[str]:
    """Of which policies."""
    return sorted(row[2].rsplit(maxsplit=1)[-1] for row in rows(client.get(ENTRIES, query)))


class TestATag:
    def test_those_are_found_that_hang_on_it(self, reader: Client) -> None:
        kept(None, "prices", policy="one")
        kept(None, "prices", "rates", policy="two", tenant="globex")
        kept(None, "prices:1", policy="three")
        kept(policy="four")
        assert found(reader, tag="prices") == ["one", "two"]
        assert found(reader, tag="rates") == ["two"]
        assert found(reader, tag="prices", tenant="acme") == ["one"]
        assert found(reader, tag="pri") == found(reader, tag="%") == []

    @pytest.mark.parametrize("name", ['a "quoted" one', "größe", "100%s", "{}", "\\", "a b", "$[0]", "?"])
    def test_whatever_its_name(self, reader: Client, name: str) -> None:
        kept(None, name, policy="one")
        assert found(reader, tag=name) == ["one"]

    @pytest.mark.parametrize("nonsense", ["\0", "x" * 5000, "'; --", "", "‮"])
    def test_nothing_is_broken_by_nonsense(self, reader: Client, nonsense: str) -> None:
        kept(policy="one")
        assert found(reader, tag=nonsense) == ([] if nonsense else ["one"])

    def test_those_that_the_app_has_written_too(self, reader: Client) -> None:
        from aicache.durable import get_writer

        assert ask("?", "prices") == "miss"
        assert get_writer().flush()
        assert found(reader, tag="prices") == ["default"]

    def test_a_form_takes_its_name_and_keeps_what_else_is_chosen(self, reader: Client) -> None:
        kept(None, "prices", policy="one")
        page = reader.get(ENTRIES, {"tag": '"><b>', "life": "on", "q": "a&b", "p": "1"}, follow=True)
        shown = page.content.decode()
        assert '<input type="text" name="tag" value="&quot;&gt;&lt;b&gt;"' in shown
        assert '<input type="hidden" name="life" value="on">' in shown
        assert '<input type="hidden" name="q" value="a&amp;b">' in shown
        assert '<input type="hidden" name="tag"' not in shown.split("aicache-by-tag")[1].split("</form>")[0]

    def test_whoever_is_limited_finds_their_tenants_alone(self, reader: Client) -> None:
        kept(None, "prices", policy="one")
        kept(None, "prices", policy="two", tenant="globex")
        with limited_to("globex"):
            assert found(reader, tag="prices") == ["two"]


class TestItsAge:
    def test_they_are_found_by_when_they_were_made(self, reader: Client) -> None:
        for policy, age in {"a": 0, "b": 2, "c": 25, "d": 24 * 8}.items():
            kept(policy=policy, created_at=timezone.now() - timedelta(hours=age))
        assert found(reader, age="hour") == ["a"]
        assert found(reader, age="day") == ["a", "b"]
        assert found(reader, age="week") == ["a", "b", "c"]
        assert found(reader, age="older") == ["d"]
        assert found(reader, age="x") == ["a", "b", "c", "d"]
        assert "made in the last 7 days" in text(reader.get(ENTRIES))


class TestNonsense:
    def test_that_the_database_refuses_is_refused(self, reader: Client, using: str, settings: Any) -> None:
        settings.AICACHE = {"DATABASE": using}
        is_refused = connections[using].vendor == "postgresql"
        for address in LISTS:
            for name in ("tenant", "tenant__contains"):
                answer = reader.get(address, {name: "with\0nul"}, follow=True)
                assert rows(answer) == []
                assert text(answer)
                assert [where for where, _status in answer.redirect_chain] == [f"{address}?e=1"] * is_refused
