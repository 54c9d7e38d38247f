"""What must be done before a Redis that was out of reach is believed again."""

from __future__ import annotations

import logging

from aicache.database import leave, on_connections_of_its_own, unforked
from aicache.freshness.drain import drain

logger = logging.getLogger("aicache")

_said = ""


def recover() -> None:
    """Applies what was committed meanwhile, on connections of this thread, and closes them.

    Raises Unavailable, and what a database does that registered models are written to: what is pending there is not
    known. Another one that is out of reach, or hangs, is passed over, or its outage would be the cache's.
    """
    global _said
    on_connections_of_its_own()  # it is the thread that probes
    try:
        with unforked():
            drain()
    except Exception as error:
        if _said != (said := f"{type(error).__name__}: {error}"):
            logger.warning("Redis is not used yet: what is pending cannot be applied (%s)", said)
        _said = said
        raise
    finally:
        leave(whole=True)
    _said = ""
