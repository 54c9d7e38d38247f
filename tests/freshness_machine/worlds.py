"""What there is in a machine: few things at a time are tried in more orders than many."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

from tests.freshness_machine.machine import (
    ALL,
    CAPTURES,
    DEATHS,
    END,
    EVERY_ASK,
    EVERYTHING,
    EVICTED,
    HELPERS,
    KILLS,
    NAMED,
    NEAR,
    OUTAGES,
    SNAPSHOTS,
    TELLS,
    UPSTREAM,
    WRITES,
)
from tests.freshness_machine.stage import OPEN

ROW: Final = ["a row of acme's"]
ANSWER: Final = ["an answer"]

# Few in one process, all of whom come to an end sooner or later.
ONE: Final[dict[str, Any]] = {"deaths": ROW, "goes_on": 1, "processes": 1, "durable": True}

WORLDS: Final[dict[str, dict[str, Any]]] = {
    "everything": {
        "asks": [*EVERY_ASK, *NAMED],
        "deaths": list(DEATHS),
        "happens": EVERYTHING,
        "inside": True,
        "durable": True,
    },
    "savers": {"asks": ["acme 1 plain"], "deaths": ROW, "happens": ["nothing"]},
    "tags": {"asks": [ask for ask in EVERY_ASK if "plain" in ask], "deaths": list(DEATHS), "happens": ["nothing"]},
    "purges": {
        "asks": ["acme 1 plain"],
        "deaths": ANSWER,
        "happens": ALL,
        "often": 2,
        "goes_on": 3,
        "far": st.sampled_from([(2, ""), UPSTREAM, END]),
    },
    "copies": {
        **ONE,
        "asks": ["acme 1 plain"],
        "happens": [*ALL, "everything"],
        "far": st.sampled_from([UPSTREAM, TELLS, END]),
    },
    "recalls": {
        **ONE,
        "asks": ["acme 1 plain"],
        "happens": ["entries", *ALL],
        "far": st.sampled_from([CAPTURES, END]),
    },
    "pins": {
        **ONE,
        "asks": ["acme 1 plain key", "acme 1 plain key", "acme 1 plain"],
        "happens": ALL,
        "far": st.sampled_from([UPSTREAM, TELLS, END, END]),
    },
    "purged copies": {
        "asks": ["acme 1 plain"],
        "deaths": ANSWER,
        "happens": ["everything", *WRITES],
        "durable": True,
    },
    "purged pins": {
        "asks": ["acme 1 plain key", "acme 1 plain key", f"acme 1 plain key{OPEN}", "acme 2 plain key"],
        "deaths": [*ANSWER, *ROW],
        "happens": ["7 s", "everything", "the database is away", *KILLS, *WRITES],
        "durable": True,
    },
    "transactions": {"asks": ["acme 1 plain"], "deaths": [*ROW, *ANSWER], "happens": ["nothing"], "inside": True},
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
