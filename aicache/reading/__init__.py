"""A flow whose caller reads a stream: driven by who reads, and where others have come to need it, also by one who does
not. What the flow hands over waits for its caller: a piece at a time, unless others need it sooner.
"""

from __future__ import annotations

from aicache.reading.passage import aclosed, closed
from aicache.reading.tasks import AsyncReading
from aicache.reading.threads import Reading

__all__ = ["AsyncReading", "Reading", "aclosed", "closed"]
