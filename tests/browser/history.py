"""What visitors and staff have done on a site before somebody looks at its admin."""

from __future__ import annotations

import re
import time
import uuid

from tests.browser.site import Site
from tests.example_project.visits import Visitor

PATIENCE = 20.0
LONG = "Unfortunately-this-cannot-be-answered-in-words-that-a-line-could-be-broken-between-" * 3
CODE = "def opened(day):\n    return day.weekday() < 6  # so long a line that no telephone shows it whole"
MARKUP = "<b>Is this bold?</b> & <script>alert(1)</script>"
WORDS = (
    "Yes: what was bought by the end of September may be sent back until the end of the year.\n\n"
    "1. Open your order.\n2. Choose what is to be sent back, and why.\n3. Print the label.\n\n"
    "The money comes back within five working days of the parcel's arrival, to the card that you paid with."
)
ARABIC = "نعم، يمكنك إعادة كل شيء خلال ثلاثين يومًا."
SURE = "/admin/aicache/invalidationtag/purge/"


def lived(site: Site) -> None:
    """Questions of both help-centres, some asked twice; articles changed, tags purged; answers of all kinds."""
    visitor = Visitor(site.url)
    visitor.post("/admin/login/?next=/admin/", username=site.user, password=site.password)
    before = _copies(visitor)
    for tenant, pk in (("acme", 3), ("acme", 4), ("globex", 7)):
        _ask(visitor, f"/{tenant}/articles/{pk}/", "Are there exceptions?")
    _copied(visitor, before + 3)
    visitor.post("/admin/helpcentre/article/4/change/", tenant="acme", title="Warranty", body="None any more.")
    for tag, tenant in (("helpcentre.article:7", "globex"), ("last year's prices", "acme"), (LONG[:200], "acme")):
        visitor.post(SURE, tag=tag, whose="tenant", tenant=tenant, confirmed="yes")
    visitor.post(SURE, tag="helpcentre.article:3", whose="everybody", tenant="", confirmed="yes")
    site.claude.set(
        script=[
            {"text": WORDS},
            {"blocks": [{"type": "text", "text": text} for text in (CODE, LONG, ARABIC)]},
            {"text": MARKUP},
            {"text": ARABIC},
        ]
    )
    for question in ("Can I send back what I bought in September?", f"Why? {LONG}", MARKUP, "هل يمكنني إعادته؟"):
        _ask(visitor, "/acme/ask/", question)
    for _ in range(3):
        visitor.post("/globex/ask/", question="When are you open?")
    _copied(visitor, before + 8)


def _ask(visitor: Visitor, path: str, question: str) -> None:
    visitor.post(path, question=question, idempotency_key=str(uuid.uuid4()))


def _copies(visitor: Visitor) -> int:
    found = re.search(r"(\d+) entr(?:y|ies)\s*</", visitor.get("/admin/aicache/cacheentry/"))
    return int(found[1]) if found else 0


def _copied(visitor: Visitor, least: int) -> None:
    """Copies are written when the caller has long had the answer."""
    deadline = time.monotonic() + PATIENCE
    while _copies(visitor) < least:
        assert time.monotonic() < deadline, "the copies of the answers are not there"
        time.sleep(0.1)
