"""``aicache.wrap``: the same kind of client back, with the cache inside."""

from __future__ import annotations

import inspect
import weakref
from typing import Any, TypeVar

from aicache.claude.middleware import CacheMiddleware
from aicache.errors import WrongKind

ClientT = TypeVar("ClientT")


def wrap(client: ClientT) -> ClientT:
    """A client like the one given, whose ``POST /v1/messages`` go through the cache; all else passes untouched.

    Takes any sync or async client of the ``anthropic`` package. Its copies (``copy``, ``with_options``,
    ``with_middleware``) are wrapped too, each with an identity of its own. Wrapping twice is wrapping once. The given
    client stays as it is; both share its connections. Raises WrongKind.
    """
    if inspect.isclass(client):
        raise WrongKind(
            f"wrap() was given the class {client.__name__}; accepted: an instance, such as {client.__name__}()"
        )
    if not isinstance(getattr(client, "middleware", None), tuple) or not callable(getattr(client, "copy", None)):
        raise WrongKind(
            f"wrap() was given {type(client).__name__!r}; accepted: a client of the anthropic package that takes "
            "middleware (anthropic >= 1.0), such as anthropic.Anthropic() or anthropic.AsyncAnthropic()"
        )
    if any(isinstance(entry, CacheMiddleware) for entry in client.middleware):  # type: ignore[attr-defined]
        return client
    wrapped: ClientT = _copy(client)
    return wrapped


def _copy(client: Any, /, *args: Any, **changes: Any) -> Any:
    """A copy of the client with a cache middleware of its own, innermost: what other middleware changes is in the key.

    Copies share their middleware, and a request does not name its client: a shared one would key the copy's requests
    by the origin's base URL and headers.
    """
    given = changes.get("middleware", client.middleware)
    others = given if isinstance(given, list | tuple) else client.middleware if given is not None else ()
    ours = CacheMiddleware()
    changes["middleware"] = [*(entry for entry in others if not isinstance(entry, CacheMiddleware)), ours]
    copied = type(client).copy(client, *args, **changes)
    ours.client = copied

    def copy(*args: Any, **changes: Any) -> Any:
        return _copy(copied, *args, **changes)

    copied.copy = copied.with_options = copy
    # That is a cycle. Its connections are held from outside of it until it is collected: they are then closed by the
    # SDK in order, where the collector would finalise sockets before their client.
    weakref.finalize(copied, lambda connections: None, copied._client).atexit = False
    return copied
