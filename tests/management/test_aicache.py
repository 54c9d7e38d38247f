from __future__ import annotations

from io import StringIO

import anthropic
import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

import aicache
from aicache.testing import ClaudeServer
from tests.claude.conftest import QUESTION

pytestmark = pytest.mark.usefixtures("aicache_isolated")


def run(*words: str) -> str:
    out = StringIO()
    call_command("aicache", *words, stdout=out)
    return out.getvalue()


def test_it_turns_the_cache_off_and_on_for_the_running_fleet(claude: ClaudeServer) -> None:
    with anthropic.Anthropic(base_url=claude.url, api_key="k") as plain, aicache.scope(tenant="acme") as calls:
        client = aicache.wrap(plain)
        client.messages.create(**QUESTION)
        assert "fleet     off" in run("off")
        client.messages.create(**QUESTION)
        assert "fleet     on" in run("on")
        client.messages.create(**QUESTION)

    assert [(call.status, call.reason) for call in calls] == [("miss", "new"), ("bypass", "switched_off"), ("hit", "")]
    assert claude.count == 2


def test_status_changes_nothing() -> None:
    assert "fleet     on" in run("status")
    run("off")
    assert "fleet     off" in run("status")


def test_status_says_what_the_settings_say() -> None:
    with override_settings(AICACHE={"ENABLED": False}):
        assert "disabled by AICACHE[ENABLED]" in run("status")


def test_without_redis_it_says_what_to_do() -> None:
    away = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}}
    with override_settings(CACHES=away), pytest.raises(CommandError, match=r'set AICACHE\["ENABLED"\] to False'):
        run("off")
