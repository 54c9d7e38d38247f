"""What aicache may raise.

    AicacheError
    ├── ArgumentError (ValueError)      an argument is of no use: it is named, with what was given and what is accepted
    │   └── TenantMismatch              another tenant was named inside a tenant's scope
    ├── IdempotencyConflict             an idempotency key has been used for another request
    └── WrongKind (TypeError)           an object of the wrong kind: async where sync is needed, no client, a generator

A mistake in the ``AICACHE`` setting raises Django's own ``ImproperlyConfigured``. Trouble with Redis raises nothing:
the call goes to upstream. Errors of the upstream are the SDK's own and pass unchanged.
"""

from __future__ import annotations

from typing import Any


class AicacheError(Exception):
    """Base of everything that aicache raises by itself; never raised directly."""


class ArgumentError(AicacheError, ValueError):
    """An argument cannot be used. The message names it, what was given and what is accepted."""


class TenantMismatch(ArgumentError):
    """A scope names another tenant than the scope around it."""


class IdempotencyConflict(AicacheError):
    """An idempotency key was used for another request; nothing is called. ``key``: that key. ``parts``: what differs,
    such as ``body.model`` or ``body.messages[2]``."""

    def __init__(self, key: str, parts: tuple[str, ...]) -> None:
        self.key = key
        self.parts = parts
        named = ", ".join(parts) or "the request"
        super().__init__(
            f"the idempotency key {key!r} was used for another request: {named} differs; accepted: the same request "
            "again, or another key"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key, self.parts)


class WrongKind(AicacheError, TypeError):
    """An object of the wrong kind was handed over. The message says what it is and what is accepted."""


def reason_of(error: BaseException) -> str:
    """Why a call ended that raised this: the ``reason`` of its CallInfo."""
    return "idempotency_conflict" if isinstance(error, IdempotencyConflict) else f"raised:{type(error).__name__}"
