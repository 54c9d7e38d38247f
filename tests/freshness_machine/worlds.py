"""What there is in a machine: few things at a time are tried in more orders than many."""

from __future__ import annotations

from typing import Any, Final

from tests.freshness_machine.machine import (
    DEATHS,
    EVERY_ASK,
    EVERYTHING,
    EVICTED,
    HELPERS,
    KILLS,
    NEAR,
    OUTAGES,
    SNAPSHOTS,
)

ROW: Final = ["a row of acme's"]

WORLDS: Final[dict[str, dict[str, Any]]] = {
    "everything": {"asks": EVERY_ASK, "deaths": list(DEATHS), "happens": EVERYTHING, "inside": True},
    "savers": {"asks": ["acme 1 plain"], "deaths": ROW, "happens": ["nothing"]},
    "tags": {"asks": [ask for ask in EVERY_ASK if "plain" in ask], "deaths": list(DEATHS), "happens": ["nothing"]},
    "transactions": {"asks": ["acme 1 plain"], "deaths": ROW, "happens": ["nothing"], "inside": True},
    "evictions": {"asks": ["acme 1 plain"], "deaths": ROW, "happens": ["a stamp", "a stamp", *EVICTED]},
    "time": {
        "asks": ["acme 1 stale", "acme 1 stale", "acme 1 plain"],
        "deaths": ROW,
        "happens": ["65 s", "65 s", "700 s"],
    },
    "strict": {"asks": ["acme 1 strict"], "deaths": ROW, "happens": ["nothing"]},
    "drains": {"asks": ["acme 1 plain"], "deaths": ROW, "happens": ["a drain"], "often": 6, "far": NEAR},
    "outages": {
        "asks": ["acme 1 plain"],
        "deaths": ROW,
        "happens": ["the server is away", "the server is away", "a reply is lost"],
        "processes": 1,
    },
    "snapshots": {
        "asks": ["acme 1 plain"],
        "deaths": ROW,
        "happens": [*SNAPSHOTS, "a process is killed"],
        "processes": 1,
        "often": 5,
    },
    "trouble": {
        "asks": ["acme 1 plain", "acme 1 stale", "acme 1 strict"],
        "deaths": ROW,
        "happens": [*OUTAGES, *KILLS, *HELPERS, "7 s", "a stamp", "leases"],
    },
}
