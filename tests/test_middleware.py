from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory, override_settings
from django.urls import path
from django.utils import translation

import aicache
from aicache.errors import ArgumentError, TenantMismatch
from aicache.frame import OUTSIDE, current, current_tenant
from aicache.middleware import ScopeMiddleware

LOCALE = "django.middleware.locale.LocaleMiddleware"
SCOPE = "aicache.middleware.ScopeMiddleware"


def seen() -> dict[str, Any]:
    """What a call made here would be cached by."""
    return {"tenant": current_tenant(), "locale": current().locale, "tags": sorted(current().tags)}


def view(request: HttpRequest) -> HttpResponse:
    return JsonResponse(seen())


async def aview(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    return JsonResponse(seen())


def failing(request: HttpRequest) -> HttpResponse:
    raise LookupError("in the view")


async def afailing(request: HttpRequest) -> HttpResponse:
    raise LookupError("in the view")


def chunks(tags: list[str]) -> Iterator[str]:
    yield f"{current_tenant()} {sorted(current().tags)};"
    with aicache.scope(tags=tags):
        yield f"{current_tenant()} {sorted(current().tags)};"
        yield f"{current_tenant()} {sorted(current().tags)};"
    yield f"{current_tenant()} {sorted(current().tags)};"


async def achunks(tags: list[str]) -> AsyncIterator[str]:
    for chunk in chunks(tags):
        await asyncio.sleep(0)
        yield chunk


STREAMED = "acme [];acme ['inner'];acme ['inner'];acme [];"


def streaming(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(chunks(["inner"]))


async def astreaming(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(achunks(["inner"]))


urlpatterns = [
    path("view", view),
    path("aview", aview),
    path("failing", failing),
    path("afailing", afailing),
    path("streaming", streaming),
    path("astreaming", astreaming),
]


def of_header(request: HttpRequest) -> str | None:
    return request.headers.get("X-Tenant")


async def aof_header(request: HttpRequest) -> str | None:
    await asyncio.sleep(0)
    return request.headers.get("X-Tenant")


def of_nothing() -> str:
    return "acme"


async def aof_nothing() -> str:
    return "acme"


class OfHeader:
    async def __call__(self, request: HttpRequest) -> str | None:
        return request.headers.get("X-Tenant")


@contextmanager
def site(tenant: Any = of_header, **aicache_: Any) -> Iterator[None]:
    chosen = {**({} if tenant is None else {"TENANT": tenant}), **aicache_}
    with override_settings(AICACHE=chosen, ROOT_URLCONF=__name__, MIDDLEWARE=[LOCALE, SCOPE]):
        yield


@pytest.fixture(autouse=True)
def _outside() -> Iterator[None]:
    with translation.override("en"):
        yield
    assert current() is OUTSIDE


class Visitor:
    """Asks a site through Django's whole WSGI or ASGI stack."""

    def __init__(self, stack: str) -> None:
        self.stack = stack

    def get(self, url: str, headers: dict[str, str] | None = None, catch: bool = False) -> tuple[int, str]:
        if self.stack == "wsgi":
            answer: Any = Client(raise_request_exception=not catch).get(url, headers=headers or {})
            return answer.status_code, answer.getvalue().decode()

        async def getting() -> tuple[int, str]:
            answer: Any = await AsyncClient(raise_request_exception=not catch).get(url, headers=headers or {})
            body = b"".join([chunk async for chunk in answer]) if answer.streaming else answer.content
            return answer.status_code, body.decode()

        return asyncio.run(getting())

    def sees(self, url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        status, body = self.get(url, headers)
        assert status == 200
        told: dict[str, Any] = json.loads(body)
        return told


@pytest.fixture(params=["wsgi", "asgi"])
def visitor(request: pytest.FixtureRequest) -> Visitor:
    return Visitor(request.param)


both_views = pytest.mark.parametrize("url", ["/view", "/aview"])


class TestTheTenantOfARequest:
    @both_views
    @pytest.mark.parametrize("ask", [of_header, aof_header, OfHeader()], ids=["sync", "async", "object"])
    def test_is_who_the_site_says(self, visitor: Visitor, url: str, ask: Any) -> None:
        with site(ask):
            assert visitor.sees(url, {"X-Tenant": "acme"})["tenant"] == "acme"
            assert visitor.sees(url, {"X-Tenant": "globex"})["tenant"] == "globex"

    @both_views
    def test_is_awaited_where_it_can_be_though_the_callable_does_not_look_async(self, url: str) -> None:
        with site(lambda request: aof_header(request)):
            assert Visitor("asgi").sees(url, {"X-Tenant": "acme"})["tenant"] == "acme"
            with pytest.raises(ArgumentError, match=r'AICACHE\["TENANT"\] is .*\(coroutine\)'):
                Visitor("wsgi").get(url, {"X-Tenant": "acme"})

    @both_views
    @pytest.mark.parametrize("ask", [of_nothing, aof_nothing, sync_to_async(of_nothing), functools.partial(of_nothing)])
    def test_may_be_known_without_the_request(self, visitor: Visitor, url: str, ask: Any) -> None:
        with site(ask):
            assert visitor.sees(url)["tenant"] == "acme"

    @both_views
    @pytest.mark.parametrize(("said", "tenant"), [(7, "7"), (0, "0"), ("acme", "acme")])
    def test_is_text(self, visitor: Visitor, url: str, said: Any, tenant: str) -> None:
        with site(lambda request: said):
            assert visitor.sees(url)["tenant"] == tenant

    @both_views
    @pytest.mark.parametrize("said", [None, ""])
    def test_may_be_nobody_whose_calls_are_unscoped(self, visitor: Visitor, url: str, said: Any) -> None:
        with site(lambda request: said):
            assert visitor.sees(url)["tenant"] is None

    @both_views
    def test_that_is_nobody_is_not_asked_for_again_without_the_request(self, visitor: Visitor, url: str) -> None:
        with site(lambda request=None: None if request else "the worker's"):
            assert visitor.sees(url)["tenant"] is None

    @both_views
    def test_is_nobody_where_the_site_does_not_say(self, visitor: Visitor, url: str) -> None:
        with site(None):
            assert visitor.sees(url)["tenant"] is None

    @both_views
    def test_is_there_on_a_site_with_one(self, visitor: Visitor, url: str) -> None:
        with site(None, SINGLE_TENANT=True):
            assert visitor.sees(url)["tenant"]

    @both_views
    @pytest.mark.parametrize("said", [True, b"acme", ["acme"], 1.5])
    def test_that_is_something_odd_is_named(self, visitor: Visitor, url: str, said: Any) -> None:
        with site(lambda request: said), pytest.raises(ArgumentError, match=r'AICACHE\["TENANT"\].*accepted: str'):
            visitor.get(url)

    def test_may_be_asked_of_the_database_from_async_code(self) -> None:
        def ask(request: HttpRequest) -> str:
            with pytest.raises(RuntimeError, match="no running event loop"):
                asyncio.get_running_loop()
            return "acme"

        with site(ask):
            assert Visitor("asgi").sees("/aview")["tenant"] == "acme"

    def test_is_everybody_where_the_site_says_so(self) -> None:
        tenants = []

        def inside(request: HttpRequest) -> HttpResponse:
            tenants.append(current_tenant())
            return HttpResponse()

        with site(lambda request: aicache.GLOBAL):
            ScopeMiddleware(inside)(RequestFactory().get("/"))
        assert tenants == [aicache.GLOBAL]

    def test_can_be_no_other_in_the_view(self) -> None:
        def inside(request: HttpRequest) -> HttpResponse:
            with pytest.raises(TenantMismatch):
                aicache.scope(tenant="globex").__enter__()
            return HttpResponse()

        with site():
            ScopeMiddleware(inside)(RequestFactory().get("/", headers={"X-Tenant": "acme"}))

    def test_may_be_named_in_the_view_where_nobody_was(self) -> None:
        def inside(request: HttpRequest) -> HttpResponse:
            with aicache.scope(tenant="globex"):
                assert current_tenant() == "globex"
            assert current_tenant() is None
            return HttpResponse()

        with site():
            ScopeMiddleware(inside)(RequestFactory().get("/"))

    def test_that_cannot_be_found_out_is_the_sites_error(self, visitor: Visitor) -> None:
        def ask(request: HttpRequest) -> str:
            raise LookupError("no such host")

        with site(ask), pytest.raises(LookupError, match="no such host"):
            visitor.get("/view")


class TestTheLocaleOfARequest:
    @both_views
    def test_is_the_active_one(self, visitor: Visitor, url: str) -> None:
        with site():
            assert visitor.sees(url, {"Accept-Language": "de"})["locale"] == "de"
            assert visitor.sees(url, {"Accept-Language": "en"})["locale"] == "en"

    def test_is_none_where_translation_is_off(self) -> None:
        def inside(request: HttpRequest) -> HttpResponse:
            assert current().locale == ""
            return HttpResponse()

        with site(), translation.override(None):
            ScopeMiddleware(inside)(RequestFactory().get("/"))


class TestAfterTheRequest:
    @pytest.mark.parametrize("url", ["/view", "/aview", "/streaming"])
    def test_no_scope_is_left(self, url: str) -> None:
        with site():
            Visitor("wsgi").get(url, {"X-Tenant": "acme"})
            assert current() is OUTSIDE

    @pytest.mark.parametrize("url", ["/failing", "/afailing"])
    def test_that_failed_no_scope_is_left_and_the_error_passes(self, visitor: Visitor, url: str) -> None:
        with site():
            with pytest.raises(LookupError, match="in the view"):
                visitor.get(url, {"X-Tenant": "acme"})
            assert current() is OUTSIDE
            assert visitor.sees("/view", {"X-Tenant": "globex"})["tenant"] == "globex"

    def test_that_failed_without_any_handler_no_scope_is_left(self) -> None:
        async def asking() -> None:
            with pytest.raises(LookupError):
                await ScopeMiddleware(afailing)(AsyncRequestFactory().get("/", headers={"X-Tenant": "acme"}))  # type: ignore[misc]
            assert current() is OUTSIDE

        with site():
            with pytest.raises(LookupError):
                ScopeMiddleware(failing)(RequestFactory().get("/", headers={"X-Tenant": "acme"}))
            assert current() is OUTSIDE
            asyncio.run(asking())


class TestAsMiddleware:
    def test_it_is_async_where_what_it_wraps_is(self) -> None:
        assert iscoroutinefunction(ScopeMiddleware(aview))
        assert not iscoroutinefunction(ScopeMiddleware(view))
        assert ScopeMiddleware.sync_capable
        assert ScopeMiddleware.async_capable

    def test_it_passes_the_very_request_and_response(self) -> None:
        response = HttpResponse("x")
        requests = []

        def inside(request: HttpRequest) -> HttpResponse:
            requests.append(request)
            return response

        request = RequestFactory().get("/")
        with site():
            assert ScopeMiddleware(inside)(request) is response
        assert requests == [request]


Answering = Callable[[HttpRequest], Any]


def answered(view: Answering, tenant: str) -> Any:
    response = ScopeMiddleware(view)(RequestFactory().get("/", headers={"X-Tenant": tenant}))
    assert not isinstance(response, Awaitable)
    return response


async def aanswered(view: Answering, tenant: str) -> Any:
    response = ScopeMiddleware(view)(AsyncRequestFactory().get("/", headers={"X-Tenant": tenant}))
    assert isinstance(response, Awaitable)
    return await response


class TestAStreamingResponse:
    @pytest.mark.parametrize(("stack", "url"), [("wsgi", "/streaming"), ("asgi", "/astreaming")])
    def test_is_made_in_the_scope_and_in_those_that_it_opens(self, stack: str, url: str) -> None:
        with site():
            assert Visitor(stack).get(url, {"X-Tenant": "acme"}) == (200, STREAMED)

    def test_leaks_nothing_between_its_chunks(self) -> None:
        with site():
            response = answered(streaming, "acme")
            made = []
            for chunk in response:
                made.append(chunk)
                assert current() is OUTSIDE

        assert b"".join(made).decode() == STREAMED

    def test_leaks_nothing_between_its_chunks_in_async_code(self) -> None:
        async def asking() -> str:
            made = []
            response = await aanswered(astreaming, "acme")
            async for chunk in response:
                made.append(chunk)
                assert current() is OUTSIDE
            return b"".join(made).decode()

        with site():
            assert asyncio.run(asking()) == STREAMED

    def test_of_one_tenant_mixes_with_none_of_another_chunk_by_chunk(self) -> None:
        with site():
            one, other = iter(answered(streaming, "acme")), iter(answered(streaming, "globex"))
            pairs = list(zip(one, other, strict=True))

        assert "".join(chunk.decode() for chunk, _ in pairs) == STREAMED
        assert "".join(chunk.decode() for _, chunk in pairs) == STREAMED.replace("acme", "globex")

    def test_is_not_changed_by_the_scope_of_who_reads_it(self) -> None:
        with site():
            response = answered(streaming, "acme")
            with aicache.scope(tenant="globex", tags=["reader"]):
                assert response.getvalue().decode() == STREAMED
                assert current_tenant() == "globex"

    def test_that_fails_in_a_chunk_raises_there_and_leaves_no_scope(self) -> None:
        def broken(request: HttpRequest) -> StreamingHttpResponse:
            def content() -> Iterator[str]:
                with aicache.scope(tags=["inner"]):
                    yield "a"
                    raise LookupError("in the stream")

            return StreamingHttpResponse(content())

        with site():
            read = iter(answered(broken, "acme"))
            assert next(read) == b"a"
            with pytest.raises(LookupError, match="in the stream"):
                next(read)
            assert current() is OUTSIDE

    @pytest.mark.django_db  # a response that is closed tells the database
    def test_that_is_closed_early_closes_its_content_and_ends_nobodys_scope(self) -> None:
        closed = []

        def endless(request: HttpRequest) -> StreamingHttpResponse:
            def content() -> Iterator[str]:
                try:
                    with aicache.scope(tags=["inner"]):
                        while True:
                            yield "a"
                finally:
                    closed.append(True)

            return StreamingHttpResponse(content())

        with site():
            response = answered(endless, "acme")
            next(iter(response))
            with aicache.scope(tenant="globex"):
                response.close()
                assert current_tenant() == "globex"
        assert closed == [True]

    def test_keeps_its_headers_and_is_streamed_as_it_was(self) -> None:
        async def asking() -> tuple[bool, bool]:
            response = await aanswered(astreaming, "acme")
            made = [chunk async for chunk in response]
            return response.is_async, len(made) == 4

        with site():
            response = answered(streaming, "acme")
            assert (response.streaming, response.is_async, len(list(response))) == (True, False, 4)
            assert asyncio.run(asking()) == (True, True)

    def test_that_nobody_asked_for_yet_is_not_begun(self) -> None:
        begun = []

        def lazy(request: HttpRequest) -> StreamingHttpResponse:
            def content() -> Iterator[str]:
                begun.append(True)
                yield "a"

            return StreamingHttpResponse(content())

        with site():
            response = answered(lazy, "acme")
            assert begun == []
            assert list(response) == [b"a"]

    @pytest.mark.django_db  # a response that is closed tells the database
    def test_of_a_file_keeps_its_servers_way_of_sending_it(self) -> None:
        def download(request: HttpRequest) -> FileResponse:
            return FileResponse(Path(__file__).open("rb"))

        with site():
            response = answered(download, "acme")
            assert response.file_to_stream is not None
            assert response.getvalue() == Path(__file__).read_bytes()
            response.close()

    def test_may_be_made_of_a_list(self) -> None:
        with site():
            response = answered(lambda request: StreamingHttpResponse(["a", "b"]), "acme")
            assert response.getvalue() == b"ab"


class TestRequestsAtTheSameTime:
    def test_of_two_tenants_never_mix(self) -> None:
        async def inside(request: HttpRequest) -> HttpResponse:
            tenants = set()
            for _ in range(10):
                await together.wait()
                tenants.add(current_tenant())
                tenants.add(await asyncio.to_thread(current_tenant))
                tenants.add(await sync_to_async(current_tenant)())
            return JsonResponse({"tenants": sorted(map(str, tenants))})

        async def asking() -> list[bytes]:
            answers = await asyncio.gather(*(aanswered(inside, f"tenant-{number}") for number in range(8)))
            return [answer.content for answer in answers]

        together = asyncio.Barrier(8)
        with site(aof_header):
            assert asyncio.run(asking()) == [b'{"tenants": ["tenant-%d"]}' % number for number in range(8)]

    def test_of_two_tenants_never_mix_in_djangos_own_stack(self) -> None:
        async def asking() -> list[str]:
            client = AsyncClient()
            answers = await asyncio.gather(
                *(client.get("/aview", headers={"X-Tenant": f"tenant-{number}"}) for number in range(20))
            )
            return [answer.json()["tenant"] for answer in answers]

        with site():
            assert asyncio.run(asking()) == [f"tenant-{number}" for number in range(20)]

    def test_that_stream_never_mix(self) -> None:
        async def content(together: asyncio.Barrier) -> AsyncIterator[str]:
            for _ in range(5):
                await together.wait()
                yield f"{current_tenant()};"

        async def asking() -> list[bytes]:
            together = asyncio.Barrier(5)

            async def inside(request: HttpRequest) -> StreamingHttpResponse:
                return StreamingHttpResponse(content(together))

            async def reading(number: int) -> bytes:
                response = await aanswered(inside, f"tenant-{number}")
                return b"".join([chunk async for chunk in response])

            return await asyncio.gather(*(reading(number) for number in range(5)))

        with site():
            assert asyncio.run(asking()) == [b"tenant-%d;" % number * 5 for number in range(5)]
