"""The prompt-cache gate: what it costs a call that need not wait, and what it saves those that begin alike."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import anthropic
from django.conf import settings
from django.test import override_settings

import aicache
from aicache.ledger.prices import price
from aicache.testing import ClaudeServer
from aicache.testing.isolation import isolated
from aicache.testing.valkey import Valkey
from benchmarks.figures import progress, row, title

TIMES, MANY, TOKENS, UPSTREAM = 300, 50, 4000, 1.0
POLICIES = {"measured": {}, "gated": {"prompt_cache": {"settle": "adaptive"}}}
_unique = itertools.count()


def run(server: Valkey) -> None:
    chosen = {**settings.AICACHE, "POLICIES": POLICIES}
    with override_settings(AICACHE=chosen), isolated():
        title(
            f"Prompt-cache gate: {TIMES} calls one after another that nobody has asked, a prefix of {TOKENS:,} tokens"
        )
        _overhead()
        title(
            f"{MANY} threads with one new prefix of {TOKENS:,} tokens and {MANY} questions, upstream {UPSTREAM:.0f} s"
        )
        for policy in POLICIES:
            _fan_out(policy)


def _overhead() -> None:
    kinds = ("no breakpoint", "measured", "gate open", "gate led")
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    with ClaudeServer() as claude, anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
        client = aicache.wrap(plain)
        shared = _system()
        for at in range(TIMES):
            progress(f"{at + 1} of {TIMES}")
            for kind in kinds:
                system = _system() if kind == "gate led" else shared
                if kind == "no breakpoint":
                    system = [{"type": "text", "text": shared[0]["text"]}]
                policy = "gated" if kind.startswith("gate") else "measured"
                began = time.perf_counter()
                _ask(client, system, policy)
                took[kind].append(time.perf_counter() - began)
    for kind in kinds:
        row(kind, took[kind], None if kind == "no breakpoint" else took["no breakpoint"])


def _fan_out(policy: str) -> None:
    with ClaudeServer(latency=UPSTREAM) as claude, anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
        client, system = aicache.wrap(plain), _system()
        with ThreadPoolExecutor(MANY) as threads:
            list(threads.map(time.sleep, [0.01] * MANY))
            began = time.perf_counter()
            answers = list(threads.map(lambda _: _ask(client, system, policy), range(MANY)))
            took = time.perf_counter() - began
    writes = sum(answer.usage.cache_creation_input_tokens > 0 for answer in answers)
    paid = sum((price(answer.model_dump()).usd or Decimal(0) for answer in answers), Decimal(0))
    told = f"{writes:3} wrote, {MANY - writes:3} read, ${paid:.4f}, {took:.2f} s"
    print(f"  {policy:<34} {told}, {took / (2 * UPSTREAM):.2f} of a leader and a call", flush=True)


def _system() -> list[dict[str, Any]]:
    text = f"{next(_unique)} " + "A long text that many ask with. " * (TOKENS // 8)
    return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]


def _ask(client: Any, system: list[dict[str, Any]], policy: str) -> Any:
    messages = [{"role": "user", "content": f"Question {next(_unique)}"}]
    with aicache.scope(policy=policy):
        return client.messages.create(model="claude-sonnet-5", max_tokens=50, system=system, messages=messages)
