"""May a request be answered from the cache, may its answer be kept, for how long, and why not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from aicache.core.terms import MEASURE, Terms, terms_of

END_OF_HOUR: Final = "end_of_hour"
END_OF_DAY: Final = "end_of_day"

Ttl = float | Literal["end_of_hour", "end_of_day"]


@dataclass(frozen=True, slots=True)
class Policy:
    """A named, frozen set of choices. Times are seconds, sizes bytes.

    ``ttl``: how long an answer is fresh, or ``"end_of_hour"`` / ``"end_of_day"`` in Django's current time zone.
    ``stale_while_revalidate``: for how much longer it is served while one caller's copy is renewed in the background.
    ``jitter``: the largest share of the ttl that is cut off at random, so that answers made together do not
    die together.
    ``wait``: how long a duplicate waits for the call that is under way before it calls upstream by itself;
    None = as long as the request's own timeout.
    ``max_bytes``: a larger answer is passed on and not kept; of a stream, its events are counted.
    ``replay``: characters per second at which a kept answer is streamed; None = at once.
    ``drain``: a stream whose caller left is read to its end all the same; else only where others wait for it.
    ``consistency``: ``"stamps"``: an answer is gone once an invalidation has returned; ``"strict"``: once it has
    committed, for the price of a query at each hit.
    ``prompt_cache``: ``"measure"``: what is written twice to the provider's prompt cache is counted; or a dict of the
    fields of ``Terms``, on which calls wait for each other. ``auto_prompt_cache``: breakpoints are placed.
    """

    name: str
    ttl: Ttl = 3600.0
    stale_while_revalidate: float = 0.0
    jitter: float = 0.05
    wait: float | None = None
    max_bytes: int = 1_000_000
    replay: float | None = None
    drain: bool = False
    store_tool_use: bool = False
    store_truncated: bool = False
    store_refusals: bool = False
    allow_external_state: bool = False
    consistency: Literal["stamps", "strict"] = "stamps"
    prompt_cache: str | Mapping[str, Any] = dataclasses.field(default=MEASURE, hash=False)
    auto_prompt_cache: bool = False

    def __post_init__(self) -> None:
        if self.ttl not in (END_OF_HOUR, END_OF_DAY):
            _number(self, "ttl", f'{SECONDS}, "end_of_hour" or "end_of_day"', LONGEST)
        _number(self, "stale_while_revalidate", SECONDS, LONGEST)
        _number(self, "max_bytes", "a number of bytes from 0 up")
        if self.wait is not None:
            _number(self, "wait", f"None or {SECONDS}", LONGEST)
        if self.replay is not None:
            _number(self, "replay", "None or characters per second, from 1 to 1000000", most=1_000_000, least=1)
        _number(self, "jitter", "a number from 0 to 1", most=1)
        if self.consistency not in CONSISTENCIES:
            raise _refused(self, "consistency", " or ".join(f'"{word}"' for word in CONSISTENCIES))
        for name in FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise _refused(self, name, "True or False")
        if isinstance(self.prompt_cache, Mapping):  # whose it is may change it
            object.__setattr__(self, "prompt_cache", dict(self.prompt_cache))
        try:
            terms_of(self.prompt_cache)
        except ValueError as error:
            raise ValueError(f"policy {self.name!r}: {error}") from None

    @property
    def terms(self) -> Terms:
        return terms_of(self.prompt_cache)


# No clock or server that a time is handed to takes infinity.
LONGEST: Final = 100 * 365 * 24 * 3600
SECONDS: Final = f"a number of seconds from 0 to {LONGEST} (100 years)"
CONSISTENCIES: Final = ("stamps", "strict")
FLAGS: Final = (
    "drain",
    "store_tool_use",
    "store_truncated",
    "store_refusals",
    "allow_external_state",
    "auto_prompt_cache",
)


def _number(policy: Policy, name: str, accepted: str, most: float = float("inf"), least: float = 0) -> None:
    value = getattr(policy, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _refused(policy, name, accepted)


def _refused(policy: Policy, name: str, accepted: str) -> ValueError:
    return ValueError(f"policy {policy.name!r}: {name} is {getattr(policy, name)!r}; accepted: {accepted}")


SHIPPED: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {},
    "chat": {"ttl": 300.0},  # a visitor who asks again after a pause means it
    "analysis": {"ttl": 4 * 3600.0},  # the same document gives the same review for a working session
    "batch": {"ttl": 24 * 3600.0},  # a job that is started again the same day must not pay again
    "retry": {"ttl": 60.0, "jitter": 0.0},  # duplicates only: double-clicks, retries, redelivered tasks
    "static": {"ttl": 30 * 24 * 3600.0},  # answers about what does not change
    "daily": {"ttl": END_OF_DAY},  # "today's …" is wrong one second after midnight
    "hourly": {"ttl": END_OF_HOUR},
    "live": {"ttl": 60.0, "jitter": 0.0},  # figures that move: at most a minute old
}


def policies(own: Mapping[str, Mapping[str, Any]]) -> dict[str, Policy]:
    """The shipped policies with a site's own over them, by name.

    Each sets some fields; the rest is as in ``default``. Raises ValueError or TypeError that names policy and field.
    """
    known = [field.name for field in fields(Policy) if field.name != "name"]
    chosen = {**SHIPPED, **own}
    for name, given in chosen.items():
        if not isinstance(name, str):
            raise TypeError(f"the name of a policy is {name!r}; accepted: a string")
        if not isinstance(given, Mapping):
            raise TypeError(f"policy {name!r} is {given!r}; accepted: a dict of {', '.join(known)}")
        for field in given:
            if field not in known:
                raise ValueError(f"policy {name!r} has the unknown field {field!r}; accepted: {', '.join(known)}")
    base = chosen["default"]
    return {name: Policy(name=name, **{**base, **given}) for name, given in chosen.items()}


# What makes a request one that no stored answer can stand for, each with its reason.
STATEFUL_FIELDS: Final[Mapping[str, str]] = {
    "thread": "the answer depends on a conversation that the provider keeps",
    "container": "the answer depends on files in a container",
    "mcp_servers": "the answer depends on other servers",
    "fallback_credit_token": "the token is good for one call",
}
# Typed tools that the caller runs; any other typed tool runs at the provider, against a world that moves.
CLIENT_TOOLS: Final = ("bash_", "text_editor_", "computer_", "browser_", "memory_")
EXTERNAL_SOURCES: Final = ("file", "url")


def unanswerable(body: Mapping[str, Any], policy: Policy) -> str | None:
    """Why this request must go to upstream and its answer be nobody else's: a reason, or None."""
    if body.get("max_tokens") == 0:
        return "prewarm"
    for field in STATEFUL_FIELDS:
        if body.get(field):
            return f"stateful:{field}"
    if policy.allow_external_state:
        return None
    try:
        blocks = list(content_blocks(body))
    except RecursionError:
        return "unkeyable"
    for tool in [*_mappings(body.get("tools")), *_tools_added(blocks)]:
        kind = tool.get("type")
        if isinstance(kind, str) and kind != "custom" and not kind.startswith(CLIENT_TOOLS):
            return f"server_tool:{kind}"
    for block in blocks:
        source = block.get("source")
        if isinstance(source, Mapping) and source.get("type") in EXTERNAL_SOURCES:
            return f"external_source:{source['type']}"
        if block.get("type") == "container_upload":
            return "external_source:container_upload"
    return None


def offers_tools(body: Mapping[str, Any]) -> bool:
    """Whether the answer may call a tool, which nobody knows before its end."""
    return bool(body.get("tools")) or any(True for _ in _tools_added(content_blocks(body)))


def content_blocks(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every content block of a request, nested ones too: system, messages, tool results, documents of blocks."""
    yield from _blocks(body.get("system"))
    for message in _mappings(body.get("messages")):
        yield from _blocks(message.get("content"))


def _tools_added(blocks: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Tools that are defined in the middle of a conversation."""
    for block in blocks:
        if block.get("type") == "tool_addition" and isinstance(tool := block.get("tool"), Mapping):
            yield from _mappings([tool.get("definition")])


def _blocks(content: Any) -> Iterator[Mapping[str, Any]]:
    for block in _mappings([content] if isinstance(content, Mapping) else content):
        yield block
        yield from _blocks(block.get("content"))
        yield from _blocks(block.get("tool_changes"))
        if isinstance(source := block.get("source"), Mapping):
            yield from _blocks(source.get("content"))


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list | tuple):
        yield from (item for item in value if isinstance(item, Mapping))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may be done with an answer: kept for later askers, shared with those who wait now, and if not, why."""

    store: bool
    share: bool
    reason: str = ""


GOOD: Final = Verdict(store=True, share=True)
FINISHED: Final = ("end_turn", "stop_sequence", "tool_use", "max_tokens", "refusal")


@dataclass(frozen=True, slots=True)
class Trait:
    """What only policies with ``flag`` accept in an answer. ``share``: whether those who wait get it all the same."""

    flag: str
    share: bool


# By the reason for which it is refused; the first one counts.
TRAITS: Final[Mapping[str, Trait]] = {
    "stop_reason:tool_use": Trait("store_tool_use", share=False),  # two callers would run the tool twice
    "stop_reason:max_tokens": Trait("store_truncated", share=True),
    "stop_reason:refusal": Trait("store_refusals", share=True),
    "server_tool": Trait("allow_external_state", share=True),
}


def traits(message: Any) -> frozenset[str]:
    """Which of the TRAITS an answer has: the parsed body of a 200. They are kept with it, for readers to judge by."""
    if not isinstance(message, Mapping):
        return frozenset()
    kinds = [block.get("type") for block in _mappings(message.get("content"))]
    found = {f"stop_reason:{message.get('stop_reason')}"} & TRAITS.keys()
    if "tool_use" in kinds:
        found.add("stop_reason:tool_use")
    if message.get("container") or any(map(_runs_at_provider, kinds)):
        found.add("server_tool")
    return frozenset(found)


def suits(found: frozenset[str], policy: Policy) -> Verdict:
    """Whether a policy takes an answer with these traits, be it to keep it, to read it, or to have it after a wait."""
    for reason, trait in TRAITS.items():
        if reason in found and not getattr(policy, trait.flag):
            return Verdict(store=False, share=trait.share, reason=reason)
    return GOOD


def verdict(message: Any, size: int, policy: Policy) -> Verdict:
    """Judges an answer: the parsed body of a 200, None where it was no JSON; ``size`` in bytes.

    An unknown stop reason is not kept: it may be one that must not be.
    """
    if not isinstance(message, Mapping) or message.get("type") != "message":
        return Verdict(store=False, share=False, reason="not_a_message")
    stop, judged = message.get("stop_reason"), suits(traits(message), policy)
    if stop not in FINISHED and judged.share:
        # pause_turn is to be continued by its own caller; the others are unfinished in their own ways.
        return Verdict(store=False, share=False, reason=f"stop_reason:{stop}")
    if judged.store and size > policy.max_bytes:
        return Verdict(store=False, share=True, reason="too_large")
    return judged


def _runs_at_provider(kind: Any) -> bool:
    return isinstance(kind, str) and (
        kind in ("server_tool_use", "mcp_tool_use") or (kind.endswith("_tool_result") and kind != "tool_result")
    )
