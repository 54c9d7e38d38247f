"""The names of models and policies as they are written down."""

from __future__ import annotations

from typing import Final

from aicache.ledger.place import label

HOUR: Final = 3600
# So many are told apart in one hour, whoever may choose them: the rest is counted together.
MOST: Final = 200
REST: Final = "(others)"


class Words:
    def __init__(self) -> None:
        self._hour = 0
        self._known: dict[str, str] = {}

    def turn(self, minute: int) -> None:
        """To another minute: names that are made up must not keep all others out for ever."""
        if minute // HOUR > self._hour:
            self._hour, self._known = minute // HOUR, {}

    def known(self, name: str) -> str:
        """ "" stays what it is."""
        known = self._known.get(name)
        if known is None and name and len(self._known) < MOST:
            known = self._known[name] = label(name)
        return known or (REST if name else "")
