"""The Lua scripts, each atomic and on one slot; sent by digest, in full where the server does not know them yet."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from importlib.resources import files
from typing import Any, Final

from redis.exceptions import NoScriptError

Command = tuple[Any, ...]
Plan = Generator[Command | list[Command], Any, Any]
"""Yields a command and is sent its reply, or a list of commands that go out together and is sent theirs."""


class Script:
    def __init__(self, name: str) -> None:
        self.text = files("aicache.store").joinpath("lua", f"{name}.lua").read_text()
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: list[str], *arguments: Any) -> Plan:
        """A plan whose result is the script's reply."""
        brief, whole = self.commands(keys, *arguments)
        try:
            return (yield brief)
        except NoScriptError:
            return (yield whole)

    def commands(self, keys: list[str], *arguments: Any) -> tuple[Command, Command]:
        """By its digest, and in full."""
        rest = (len(keys), *keys, *arguments)
        return ("EVALSHA", self.digest, *rest), ("EVAL", self.text, *rest)


CAPTURE: Final = Script("capture")
STAMP_AGAIN: Final = Script("stamp")
HANG: Final = Script("hang")
FREE: Final = Script("free")
LEAD: Final = Script("lead")
FINISH: Final = Script("finish")
RENEW: Final = Script("renew")
SAY: Final = Script("say")
TAIL: Final = Script("tail")
LEAVE: Final = Script("leave")
UNFOLLOW: Final = Script("unfollow")
APPROACH: Final = Script("approach")
NOTE: Final = Script("note")
FIRST: Final = Script("first")
SWAP: Final = Script("swap")
