"""Figures as people read them."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from django.utils.formats import number_format
from django.utils.translation import gettext as _

NANO: Final = Decimal(10) ** 9
NONE: Final = "–"


def number(value: int) -> str:
    return number_format(value, force_grouping=True)


def usd(nano: int) -> str:
    """From billionths; in cents, and of less than a cent in as much as shows two figures."""
    amount = nano / NANO
    places = 2 if not amount or abs(amount) >= Decimal("0.01") else min(1 - amount.adjusted(), 6)
    return _money(amount, places)


def dollars(amount: Decimal) -> str:
    """In full cents, and in as much less as it takes to show two figures."""
    return _money(amount, max(2, 1 - amount.adjusted()) if amount else 2)


def _money(amount: Decimal, places: int) -> str:
    told = number_format(round(abs(amount), places), decimal_pos=places, force_grouping=True)
    return (_("−$%(amount)s") if amount < 0 else _("$%(amount)s")) % {"amount": told}


def percent(share: float | None) -> str:
    if share is None:
        return NONE
    places = 1 if not share or share >= 0.001 else 3
    return _("%(number)s %%") % {"number": number_format(round(share * 100, places), decimal_pos=places)}


def seconds(length: float | None) -> str:
    """In the largest unit that leaves a figure before the point."""
    if length is None:
        return NONE
    if length < 1:
        return _("%(number)s ms") % {"number": number_format(length * 1000, decimal_pos=1 if length < 0.1 else 0)}
    return _("%(number)s s") % {"number": number_format(length, decimal_pos=1)}
