"""How it stands with an idempotency key, as SQL can say it: for its page, for lists, and to filter by."""

from __future__ import annotations

from typing import Final

from django.db.models import Case, CharField, Q, Value, When
from django.utils import timezone
from django.utils.translation import gettext_lazy, pgettext_lazy

LABELS: Final = {
    "expired": gettext_lazy("expired"),
    "under_way": gettext_lazy("under way"),
    "answered": pgettext_lazy("state", "answered"),
    "unanswered": gettext_lazy("not answered"),
}


def state() -> Case:
    """One of LABELS. A key that is asked for anew, as its answer is dead, is under way."""
    now = timezone.now()
    return Case(
        When(expires_at__lte=now, then=Value("expired")),
        When(~Q(holder=""), held_until__gt=now, then=Value("under_way")),
        When(~Q(answer=""), then=Value("answered")),
        default=Value("unanswered"),
        output_field=CharField(),
    )
