"""The Lua scripts, each atomic and on one slot; sent by digest, in full where the server does not know them yet."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from importlib.resources import files
from typing import Any, Final

from redis.exceptions import NoScriptError

Command = tuple[Any, ...]
Plan = Generator[Command, Any, Any]


class Script:
    def __init__(self, name: str) -> None:
        self.text = files("aicache.store").joinpath("lua", f"{name}.lua").read_text()
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: list[str], *arguments: Any) -> Plan:
        """A plan whose result is the script's reply."""
        try:
            return (yield ("EVALSHA", self.digest, len(keys), *keys, *arguments))
        except NoScriptError:
            return (yield ("EVAL", self.text, len(keys), *keys, *arguments))


LEAD: Final = Script("lead")
FINISH: Final = Script("finish")
RENEW: Final = Script("renew")
