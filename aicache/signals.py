"""What happens to invalidations, for logs and metrics. Sent with ``send_robust``: no receiver stands in the way."""

from __future__ import annotations

from django.dispatch import Signal

invalidated = Signal()
"""Stamps were drawn anew. ``tags``: a tuple of ``core.tags.Tag``; ``cause``: words for people; ``using``: the database.

Sent after the commit, in the process that applied them: the saver's, or the one that drains.
"""

pending = Signal()
"""Committed, but the stamps could not be drawn; the next drain will. The same arguments."""
