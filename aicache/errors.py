"""What aicache may raise.

    AicacheError
    ├── ArgumentError (ValueError)      an argument is of no use: it is named, with what was given and what is accepted
    │   └── TenantMismatch              another tenant was named inside a tenant's scope
    └── WrongKind (TypeError)           an object of the wrong kind: async where sync is needed, no client, a generator

A mistake in the ``AICACHE`` setting raises Django's own ``ImproperlyConfigured``. Trouble with Redis raises nothing:
the call goes to upstream. Errors of the upstream are the SDK's own and pass unchanged.
"""

from __future__ import annotations


class AicacheError(Exception):
    """Base of everything that aicache raises by itself; never raised directly."""


class ArgumentError(AicacheError, ValueError):
    """An argument cannot be used. The message names it, what was given and what is accepted."""


class TenantMismatch(ArgumentError):
    """A scope names another tenant than the scope around it."""


class WrongKind(AicacheError, TypeError):
    """An object of the wrong kind was handed over. The message says what it is and what is accepted."""
