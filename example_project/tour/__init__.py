"""``manage.py tour``: shows in less than a minute what aicache promises, and checks it."""

from __future__ import annotations
