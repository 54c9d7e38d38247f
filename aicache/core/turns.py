"""Whose turn it is to call, and what those hear who wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Led:
    """The caller leads; ``token`` is its proof. The lease is renewed for as long as this object is remembered."""

    token: str


@dataclass(frozen=True, slots=True)
class Held:
    """The leader with ``token`` is at it; unless it renews, its lease is over in ``seconds``."""

    token: str
    seconds: float


class News(Enum):
    """What a waiter may hear instead of an answer."""

    NOT_SHARED = "not_shared"  # the leader's answer is for the leader alone
    LOOK_AGAIN = "look_again"  # stored, abandoned, or nothing heard in time
    BROKE_OFF = "broke_off"  # the leader's stream did: it may be upstream's trouble, and everybody's
