"""``manage.py tour``: shows in half a minute what aicache promises, and checks it."""

from __future__ import annotations
