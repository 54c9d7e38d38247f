"""The SDK's seam: the only importer of anthropic and httpx2."""

from __future__ import annotations

from aicache.claude.client import wrap

__all__ = ["wrap"]
