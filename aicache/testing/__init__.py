"""A Claude API to test against: real HTTP on 127.0.0.1, no key, no bill.

    with ClaudeServer() as claude:
        client = anthropic.Anthropic(base_url=claude.url, api_key="test")
        claude.script(Reply.error(529, retry_after=0.1), Reply.text("Hello."))

`python -m aicache.testing` runs it as a process of its own; `aicache.testing.control.ClaudeControl`
steers it from other processes. Standard library only, and imported by no production code.
"""

from __future__ import annotations

from aicache.testing.claude import ClaudeServer
from aicache.testing.received import Received
from aicache.testing.reply import Reply

__all__ = ["ClaudeServer", "Received", "Reply"]
