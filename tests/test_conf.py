from __future__ import annotations

import dataclasses
import functools
import uuid
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from aicache.conf import Settings, TenantSource, cache_configuration, get_settings, load


def of_nothing() -> str:
    return "acme"


def of_request(request: Any) -> str:
    return "acme"


def of_either(request: Any = None) -> str:
    return "acme"


async def of_async(request: Any) -> str:
    return "acme"


async def several(request: Any) -> Any:
    yield "acme"


def anew(request: Any, *, tenant: Any, entry: Any) -> None:
    pass


async def anew_async(request: Any, *, tenant: Any, entry: Any) -> None:
    pass


class Asker:
    def __call__(self, request: Any) -> str:
        return "acme"

    async def later(self) -> str:
        return "acme"


class AsyncAsker:
    async def __call__(self) -> str:
        return "acme"


def refused(given: Any) -> str:
    with pytest.raises(ImproperlyConfigured) as caught:
        load(given)
    return str(caught.value)


class TestWhatIsChosen:
    def test_nothing_need_be_chosen(self) -> None:
        settings = load({})

        assert settings.enabled
        assert not settings.single_tenant
        assert (settings.cache_alias, settings.database) == ("default", "default")
        assert (settings.namespace, settings.default_policy) == ("1", "default")
        assert settings.tenant is None
        assert set(settings.policies) > {"default", "chat", "daily"}

    def test_all_that_is_chosen_is_taken(self) -> None:
        settings = load(
            {
                "ENABLED": False,
                "CACHE_ALIAS": "claude",
                "DATABASE": "default",
                "NAMESPACE": "2026-10_b",
                "TENANT": of_request,
                "SINGLE_TENANT": False,
                "STAFF_TENANTS": of_request,
                "POLICIES": {"mine": {"ttl": 5}},
                "DEFAULT_POLICY": "mine",
            }
        )

        assert not settings.enabled
        assert (settings.cache_alias, settings.namespace, settings.default_policy) == ("claude", "2026-10_b", "mine")
        assert settings.tenant == TenantSource(of_request, takes_request=True, needs_request=True)
        assert settings.staff_tenants is of_request
        assert settings.policy("mine").ttl == 5

    def test_settings_are_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            load({}).enabled = False  # type: ignore[misc]

    def test_they_are_read_once(self) -> None:
        assert get_settings() is get_settings()

    def test_override_settings_works(self) -> None:
        before = get_settings()
        with override_settings(AICACHE={"NAMESPACE": "of-this-test"}):
            assert get_settings().namespace == "of-this-test"
            with override_settings(AICACHE={"ENABLED": False}):
                assert not get_settings().enabled
            assert get_settings().enabled

        assert get_settings() == before

    def test_a_site_that_sets_nothing_has_the_defaults(self) -> None:
        from django.conf import settings

        with override_settings():
            del settings.AICACHE
            assert get_settings() == load({})

    @pytest.mark.parametrize("given", [1, 42, "1", "v2", "2026-10", "a_b", "x" * 64, uuid.UUID(int=7).hex], ids=str)
    def test_a_namespace_is_a_word_or_a_number(self, given: Any) -> None:
        assert load({"NAMESPACE": given}).namespace == str(given)

    def test_an_unknown_policy_is_answered_with_those_that_are_known(self) -> None:
        with pytest.raises(ValueError, match=r"no policy 'dayly'; known: .*chat.*daily"):
            load({}).policy("dayly")
        with pytest.raises(ValueError, match="no policy"):
            load({}).policy([])  # type: ignore[arg-type]


class TestAMistakeIsNamedWithItsValueAndWhatIsAccepted:
    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ([], ["AICACHE is []", "a dict with ENABLED, CACHE_ALIAS"]),
            (None, ["AICACHE is None", "a dict"]),
            ({"NAMESAPCE": "2"}, ["'NAMESAPCE'", "NAMESPACE"]),
            ({"enabled": True}, ["'enabled'", "ENABLED"]),
            ({7: True}, ["7", "ENABLED"]),
            ({"ENABLED": "no"}, ["AICACHE[\"ENABLED\"] is 'no'", "True or False"]),
            ({"ENABLED": 1}, ['AICACHE["ENABLED"] is 1', "True or False"]),
            ({"SINGLE_TENANT": None}, ['AICACHE["SINGLE_TENANT"] is None', "True or False"]),
            ({"CACHE_ALIAS": None}, ['AICACHE["CACHE_ALIAS"] is None', "a key of CACHES"]),
            ({"DATABASE": 7}, ['AICACHE["DATABASE"] is 7', "a key of DATABASES"]),
            ({"DATABASE": "replica"}, ["AICACHE[\"DATABASE\"] is 'replica'", "one of default"]),
            ({"NAMESPACE": ""}, ["AICACHE[\"NAMESPACE\"] is ''", "1 to 64 letters"]),
            ({"NAMESPACE": "x" * 65}, ['AICACHE["NAMESPACE"]', "1 to 64 letters"]),
            ({"NAMESPACE": "{a}"}, ["AICACHE[\"NAMESPACE\"] is '{a}'", "1 to 64 letters"]),
            ({"NAMESPACE": "a b"}, ["AICACHE[\"NAMESPACE\"] is 'a b'", "1 to 64 letters"]),
            ({"NAMESPACE": "a:b"}, ['AICACHE["NAMESPACE"]', "1 to 64 letters"]),
            ({"NAMESPACE": "a\n"}, ['AICACHE["NAMESPACE"]', "1 to 64 letters"]),
            ({"NAMESPACE": True}, ['AICACHE["NAMESPACE"] is True', "or a number"]),
            ({"NAMESPACE": 1.5}, ['AICACHE["NAMESPACE"] is 1.5', "or a number"]),
            ({"NAMESPACE": None}, ['AICACHE["NAMESPACE"] is None', "or a number"]),
            ({"POLICIES": ["mine"]}, ["AICACHE[\"POLICIES\"] is ['mine']", "a dict of policies"]),
            ({"POLICIES": {"mine": 60}}, ['AICACHE["POLICIES"]', "'mine' is 60", "a dict of ttl"]),
            ({"POLICIES": {"mine": {"til": 60}}}, ['AICACHE["POLICIES"]', "'mine'", "'til'", "ttl"]),
            ({"POLICIES": {"mine": {"ttl": "1h"}}}, ['AICACHE["POLICIES"]', "'mine'", "ttl is '1h'"]),
            ({"POLICIES": {7: {}}}, ['AICACHE["POLICIES"]', "7", "a string"]),
            ({"DEFAULT_POLICY": "dayly"}, ['AICACHE["DEFAULT_POLICY"]', "'dayly'", "daily"]),
            ({"DEFAULT_POLICY": 7}, ['AICACHE["DEFAULT_POLICY"] is 7', "the name of a policy"]),
            ({"TENANT": of_nothing, "SINGLE_TENANT": True}, ['"TENANT"', '"SINGLE_TENANT"', "one of them"]),
        ],
    )
    def test_in_general(self, given: Any, said: list[str]) -> None:
        message = refused(given)

        for word in said:
            assert word in message

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("acme", ["'acme'", "cannot be imported", "a callable", "SINGLE_TENANT=True"]),
            ("tests.test_conf.nobody", ["'tests.test_conf.nobody'", "cannot be imported"]),
            ("tests.settings.SECRET_KEY", ["'for tests'", "a callable", "SINGLE_TENANT=True"]),
            (7, ["7", "a callable", "SINGLE_TENANT=True"]),
            (lambda request, user: None, ["needs 2 arguments", "of none, or of the request"]),
            (lambda *, request: None, ["'request' by name only", "of none, or of the request"]),
            (lambda request, *, user: None, ["needs 2 arguments"]),
            (int, ["<class 'int'>", "does not say what arguments"]),
        ],
    )
    def test_in_the_tenant(self, value: Any, said: list[str]) -> None:
        message = refused({"TENANT": value})

        assert message.startswith('AICACHE["TENANT"] is ')
        for word in said:
            assert word in message

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("acme", ["'acme'", "cannot be imported", "a callable"]),
            ("tests.test_conf.nobody", ["'tests.test_conf.nobody'", "cannot be imported"]),
            ("tests.settings.SECRET_KEY", ["'for tests'", "a callable"]),
            (["acme"], ["['acme']", "None", "a callable"]),
            (of_nothing, ["takes no argument", "of the request"]),
            (lambda **named: None, ["takes no argument", "of the request"]),
            (lambda request, user: None, ["needs 2 arguments", "of the request"]),
            (lambda *, request: None, ["'request' by name only", "of the request"]),
            (int, ["<class 'int'>", "does not say what arguments"]),
            (of_async, ["is async", "the admin is not"]),
            (sync_to_async(of_request), ["the admin is not"]),
            (functools.partial(of_async), ["is async"]),
            (several, ["is async"]),
        ],
    )
    def test_in_whose_rows_staff_may_see(self, value: Any, said: list[str]) -> None:
        message = refused({"STAFF_TENANTS": value})

        assert message.startswith('AICACHE["STAFF_TENANTS"] is ')
        for word in said:
            assert word in message

    def test_a_site_of_one_tenant_has_no_others_to_keep_from_its_staff(self) -> None:
        message = refused({"STAFF_TENANTS": of_request, "SINGLE_TENANT": True})

        for word in ('"STAFF_TENANTS"', '"SINGLE_TENANT"', "one of them"):
            assert word in message


class TestAnswersAreMadeAnewByACallable:
    @pytest.mark.parametrize("act", [anew, functools.partial(anew), lambda *given, **more: None])
    def test_that_takes_the_request_and_whose_it_is(self, act: Any) -> None:
        assert load({"REFRESH": act}).refresh is act

    def test_or_by_a_dotted_path(self) -> None:
        assert load({"REFRESH": "tests.test_conf.anew"}).refresh is anew

    def test_or_by_nobody(self) -> None:
        assert load({}).refresh is load({"REFRESH": None}).refresh is None

    @pytest.mark.parametrize(
        "value", [True, 7, "nothing.of_this", lambda: None, of_request, lambda body, tenant: None, int, anew_async]
    )
    def test_and_by_nothing_else(self, value: Any) -> None:
        assert refused({"REFRESH": value}).startswith('AICACHE["REFRESH"] is ')


class TestWhoseRowsStaffMaySeeIsSaidByACallable:
    @pytest.mark.parametrize("ask", [of_request, of_either, Asker(), functools.partial(of_request), lambda *args: None])
    def test_that_takes_the_request(self, ask: Any) -> None:
        assert load({"STAFF_TENANTS": ask}).staff_tenants is ask

    def test_or_by_a_dotted_path(self) -> None:
        assert load({"STAFF_TENANTS": "tests.test_conf.of_request"}).staff_tenants is of_request

    def test_or_by_nobody(self) -> None:
        assert load({"STAFF_TENANTS": None}).staff_tenants is None


class TestTheTenantMayBeSaidByACallableOfAnyKind:
    @pytest.mark.parametrize(
        ("ask", "takes", "needs", "is_async"),
        [
            (of_nothing, False, False, False),
            (of_request, True, True, False),
            (of_either, True, False, False),
            (of_async, True, True, True),
            (Asker(), True, True, False),
            (Asker().later, False, False, True),
            (AsyncAsker(), False, False, True),
            (functools.partial(of_request, None), False, False, False),
            (functools.partial(of_async), True, True, True),
            (sync_to_async(of_nothing), False, False, True),
            (lambda *args: "acme", True, False, False),
            (lambda **named: "acme", False, False, False),
            (lambda request, *, user=None: "acme", True, True, False),
        ],
    )
    def test_and_is_asked_as_it_wants_to_be(self, ask: Any, takes: bool, needs: bool, is_async: bool) -> None:
        source = load({"TENANT": ask}).tenant

        assert source == TenantSource(ask, takes_request=takes, needs_request=needs)
        assert source.is_async is is_async

    def test_and_by_a_dotted_path(self) -> None:
        source = load({"TENANT": "tests.test_conf.of_request"}).tenant

        assert source == TenantSource(of_request, takes_request=True, needs_request=True)


def test_an_alias_that_caches_does_not_have_is_named() -> None:
    with pytest.raises(ImproperlyConfigured, match=r'AICACHE\["CACHE_ALIAS"\] is \'claude\'.*one of CACHES, default'):
        cache_configuration(load({"CACHE_ALIAS": "claude"}))


def test_every_field_has_a_place_in_the_setting() -> None:
    assert {field.name.upper() for field in dataclasses.fields(Settings)} == {
        "ENABLED",
        "WORKSPACE",
        "METRICS_DAYS",
        "METRICS_TOKEN",
        "CACHE_ALIAS",
        "NAMESPACE",
        "TENANT",
        "SINGLE_TENANT",
        "STAFF_TENANTS",
        "REFRESH",
        "DATABASE",
        "DURABLE",
        "STORE_REQUESTS",
        "POLICIES",
        "DEFAULT_POLICY",
    }


@pytest.mark.parametrize(
    "token",
    [
        None,
        1,
        "short",
        "x" * 15,
        "fifteen\nof these lines",
        b"bytes of sixteen or more",
        "in no header: é, or ☃",
        "a space at the end ",
    ],
)
def test_a_token_that_is_none_is_refused_without_being_told(token: object) -> None:
    with pytest.raises(ImproperlyConfigured, match=r'AICACHE\["METRICS_TOKEN"\] .* at least 16 characters') as refused:
        load({"METRICS_TOKEN": token})
    assert not isinstance(token, str) or token not in str(refused.value)
    assert "sixteen characters" not in repr(load({"METRICS_TOKEN": "a token of sixteen characters"}))


@pytest.mark.parametrize("days", [1, 400, 36_500])
def test_figures_are_kept_for_a_number_of_days(days: int) -> None:
    assert load({"METRICS_DAYS": days}).metrics_days == days
    assert load({}).metrics_days == 400


@pytest.mark.parametrize("days", [0, -1, 36_501, 1.5, "400", True, None])
def test_no_other_number_of_days_will_do(days: Any) -> None:
    accepted = r'AICACHE\["METRICS_DAYS"\] is .*; accepted: a whole number, from 1 to 36,500'
    with pytest.raises(ImproperlyConfigured, match=accepted):
        load({"METRICS_DAYS": days})
