"""What one call's way past the prompt-cache gate is worth: before it, and in the books after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from aicache.core.gating import Way
from aicache.core.prefix import Prompt
from aicache.core.usage import Living, PromptUse, State, Usage, miss_reason, redundant, was_read

# Of the time that its caller gives it a call may spend so much here.
SHARE: Final = 0.5


class Bill:
    """``waited``: seconds at the gate, beyond those before it. ``has_stayed``: for another's answer to begin;
    ``has_settled``: until a prefix could be read. ``use``: what is known by now of what the call did."""

    def __init__(self, prompt: Prompt, waited: float) -> None:
        self.use = PromptUse(prompt.model)
        self.waited = 0.0
        self.has_stayed = self.has_settled = False
        self._prompt = prompt
        self._before = prompt.waited + waited
        self._untold = 0.0  # of what it waited, in the books
        self._is_noted = self._has_prewarmed = False
        self._prewarm_usd: Decimal | None = None

    # Before the call

    @property
    def left(self) -> float:
        """Seconds for which it may still wait: no more than the policy says, and than leaves time for its call."""
        prompt = self._prompt
        most = prompt.terms.max_wait if prompt.timeout is None else min(prompt.terms.max_wait, prompt.timeout * SHARE)
        return max(float(most) - self._before - self.waited, 0.0)

    def patience(self, way: Way) -> float:
        """Seconds for which it is worth to wait for another's answer to begin: no more than writing costs what that one
        writes."""
        value = self._prompt.terms.latency_value
        if not value:
            return self.left
        tokens = self._prompt.prefixes[way.held_at].tokens - (0 if way.living is None else way.living.tokens)
        return min(self.left, self._worth(max(tokens, 0)) / value - self.waited)

    def pays(self, tokens: int, seconds: float, chance: float) -> bool:
        """Whether it is worth to wait so long, where so many tokens would else be written again by that chance."""
        value = self._prompt.terms.latency_value
        return not value or value * seconds <= chance * self._worth(tokens)

    def passes(self, state: State) -> None:
        """The call is made now."""
        self.use = PromptUse(self._prompt.model, state, self.waited)
        self._untold = self.waited

    def _worth(self, tokens: int) -> float:
        """About what it costs to write them, beyond reading them; nothing, where no price is known."""
        return float(self._prompt.books.worth(self._prompt.model, tokens, self._life) or 0)

    # After it

    def count(self, usage: Usage, lived: Sequence[Living], way: Way, message: Any) -> None:
        """What an answer says that has begun."""
        again = redundant(usage, lived)
        self.use = PromptUse(
            self._prompt.model,
            self.use.state,
            self.waited,
            usage.read,
            usage.written,
            again,
            self._rewriting(message, again, read=False),
            self._saved(usage, way, message),
            miss_reason(message),
            self._prompt.prefixes[-1].digest,
        )
        self._note(self.use)

    def prewarmed(self, message: Any) -> None:
        """That was another call, which was made beforehand."""
        self._has_prewarmed, self._prewarm_usd = True, self._prompt.books.cost(message)
        self._is_noted = False
        self.use = PromptUse(self._prompt.model, self.use.state, self.waited)

    def close(self) -> None:
        """Of a call that had no answer, what it waited and paid beforehand is all."""
        if not self._is_noted:
            cost = None if self._prewarm_usd is None else -self._prewarm_usd
            self._note(replace(self.use, saved_usd=cost) if self._has_prewarmed else self.use)

    def _note(self, use: PromptUse) -> None:
        """What it waited counts once, however many calls it makes."""
        self._is_noted = True
        self._prompt.books.note(replace(use, waited=self._untold))
        self._untold = 0.0

    def _saved(self, usage: Usage, way: Way, message: Any) -> Decimal | None:
        """Who waited for another's answer to begin would have written what it has read. Who waited longer perhaps."""
        living = way.living
        if self._has_prewarmed:
            worth = self._rewriting(message, usage.read, read=True)
            return None if worth is None or self._prewarm_usd is None else worth - self._prewarm_usd
        if living is None or not (self.has_stayed or self.has_settled) or not was_read(usage, living):
            return Decimal(0)
        worth = self._rewriting(message, min(usage.read, living.tokens), read=True)
        return worth if worth is None or self.has_stayed else worth * Decimal(way.lag.chance)

    def _rewriting(self, message: Any, tokens: int, *, read: bool) -> Decimal | None:
        return self._prompt.books.rewriting(message, tokens, self._life, read=read) if tokens else Decimal(0)

    @property
    def _life(self) -> float:
        return self._prompt.prefixes[-1].life or 0.0
