"""The way to upstream, past the prompt-cache gate: lead, or wait until what another writes can be read.

As ``flow``, written once. Whatever becomes of the gate, the call is made.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from aicache.core.bill import Bill
from aicache.core.gating import Approach, Note, Observe, Quit, Scout, Shut, Sleep, Stay, Way
from aicache.core.operations import Call, Elapsed, Operation, Unavailable
from aicache.core.passing import Leading, passing
from aicache.core.prefix import Prompt
from aicache.core.recording import Recording
from aicache.core.records import Answer, Ask, Called, Failure, Opened, Served
from aicache.core.streaming import Ending, Pull
from aicache.core.terms import ADAPTIVE
from aicache.core.turns import Led, News
from aicache.core.usage import Living, PromptUse, State, Usage, was_read

Step = Generator[Operation, Any, None]

# With these upstream may refuse the form of a call, and not the call.
OF_THE_FORM: Final = (400, 403, 404, 405, 406, 415, 422, 501)
# Leaders that fail one after another are upstream's trouble, and everybody's: who has met so many calls by itself.
MOST_FAILURES: Final = 2


def through(
    prompt: Prompt | None,
    leads: Ask | None,
    begun: Callable[[Called], Served],
    leading: Leading | None = None,
    *,
    waited: float = 0.0,
) -> Generator[Operation, Any, tuple[Called, Ending | None]]:
    """Calls upstream when the gate lets it, and passes its stream on. → what it came to, and how that ended for those
    who follow it. ``begun``: what the caller of a stream is given to begin with. ``waited``: seconds before this."""
    gate = Gate(prompt, waited)
    ending: Ending | None = None
    try:
        yield from gate.pass_()
        called = yield from gate.call(leads)
        if isinstance(opened := called.outcome, Opened):
            called = replace(called, use=gate.use)
            called, ending = yield from passing(called, opened, begun(called), leading, gate)
        yield from gate.over(called)
    except GeneratorExit:  # nobody drives this flow any more: its lease ends by itself
        raise
    except BaseException:
        yield from gate.quit()
        raise
    return replace(called, use=gate.use), ending


class Gate:
    """One attempt's."""

    def __init__(self, prompt: Prompt | None, waited: float) -> None:
        self._prompt = prompt if prompt is not None and prompt.prefixes else None
        self._bill = None if self._prompt is None else Bill(self._prompt, waited)
        self._way = Way()
        self._led: Led | None = None
        self._gap = 0.0  # seconds from the write of what lives to the call
        self._is_noted = self._is_away = False

    @property
    def use(self) -> PromptUse | None:
        """What is known by now of what the call did."""
        return None if self._bill is None else self._bill.use

    # Before the call

    def pass_(self) -> Step:
        """Returns when the call may be made: at once where the policy names no gate, or the store is out of reach."""
        prompt, bill = self._prompt, self._bill
        if prompt is None or bill is None or not prompt.terms.is_gated:
            return
        try:
            yield from self._come(prompt, bill)
            if self._prompt is not None:
                yield from self._settle(prompt, bill)
        except Unavailable:
            self._is_away, self._led = True, None
        bill.passes(self._state(bill))

    def _come(self, prompt: Prompt, bill: Bill) -> Step:
        failures = 0
        while True:
            goes = failures >= MOST_FAILURES or not bill.left
            self._way = yield Approach(prompt, waits=not goes)
            self._led, held = self._way.led, self._way.held
            if not self._way.is_on:
                self._prompt = self._led = None
                return
            if held is None or goes or (patience := bill.patience(self._way)) <= 0:
                return
            began: float = yield Elapsed()
            news: News = yield Stay(prompt, held.token, min(held.seconds, patience))
            if news is News.NOT_SHARED:
                return
            bill.waited += (yield Elapsed()) - began
            bill.has_stayed = True
            failures += news is News.BROKE_OFF

    def _settle(self, prompt: Prompt, bill: Bill) -> Step:
        """A prefix is not always readable as soon as its writer's answer has begun."""
        living, lag, terms = self._way.living, self._way.lag, prompt.terms
        if living is None:
            return
        self._gap = living.age
        adapts = terms.settle == ADAPTIVE
        settle, chance = (lag.settle, lag.chance) if adapts else (float(terms.settle), 1.0)
        seconds = settle - living.age
        if seconds <= 0 or (adapts and living.is_read):
            return
        if seconds > bill.left or not bill.pays(living.tokens, seconds, chance):  # half a wait is a wait for nothing
            return
        if adapts and lag.probes and (yield Scout(prompt, living.at)):
            return
        began: float = yield Elapsed()
        yield Sleep(seconds)
        slept = (yield Elapsed()) - began
        self._gap += slept
        bill.waited += slept
        bill.has_settled = True

    def _state(self, bill: Bill) -> State:
        if bill.waited:
            return "wait"
        if self._led is not None:
            return "lead"
        if self._is_away or self._prompt is None or self._way.held is not None:
            return "off"
        return "off" if self._way.living is None else "open"

    # The call

    def call(self, leads: Ask | None) -> Generator[Operation, Any, Called]:
        """Where others wait for a plain one, it is made so that they need not wait for its end."""
        prompt = self._prompt
        called: Called
        form = prompt.terms.leader if prompt is not None and self._led is not None else "plain"
        if prompt is None or form not in prompt.forms:
            called = yield Call(leads, gate=self._token)
            return called
        if form == "prewarm":
            refused = yield from self._prewarm()
            called = refused or (yield Call(leads, gate=self._token))
            return called
        called = yield Call(leads, "stream", self._token)
        if isinstance(called.outcome, Opened):
            return (yield from self._folded(called.outcome, leads))
        if isinstance(called.outcome, Failure) and called.outcome.status in OF_THE_FORM:
            called = yield Call(leads, gate=self._token)
            if not isinstance(called.outcome, Failure):
                prompt.forms.discard("stream")
        return called

    @property
    def _token(self) -> str:
        return "" if self._led is None else self._led.token

    def _prewarm(self) -> Generator[Operation, Any, Called | None]:
        """→ what its own call would have come to, where upstream has a trouble that is not the form's."""
        called: Called = yield Call(form="prewarm", gate=self._token)
        if isinstance(called.outcome, Failure):
            return None if called.outcome.status in OF_THE_FORM else called
        if self._bill is not None:
            yield from self.begun(called.message)
            self._bill.prewarmed(called.message)
            self._is_noted = False  # the call itself is still to come
        return None

    def _folded(self, opened: Opened, leads: Ask | None) -> Generator[Operation, Any, Called]:
        """A stream, as the plain answer that it would have been."""
        try:
            return (yield from self._read_on(opened, leads))
        finally:
            opened.upstream.over()

    def _read_on(self, opened: Opened, leads: Ask | None) -> Generator[Operation, Any, Called]:
        upstream, recording = opened.upstream, Recording()
        trouble: Exception | None = None
        try:
            began: float = yield Elapsed()
            while not recording.is_over():
                try:
                    chunk: bytes | None = yield Pull(upstream)
                except Exception as error:  # noqa: BLE001 - upstream's own
                    trouble = error
                    break
                if chunk is None:
                    break
                recording.feed(chunk)
                yield from self.begun(recording.message)
                if not recording.is_over() and (yield from self._is_late(began)):
                    trouble = TimeoutError()
                    break
        except GeneratorExit:
            raise
        except BaseException:
            yield Shut(upstream)
            raise
        yield Shut(upstream)
        whole: Called | None = upstream.whole(recording, trouble)
        if whole is None:  # nobody knows what the plain answer would have been
            whole = yield Call(leads, gate=self._token)
        return whole

    def _is_late(self, began: float) -> Generator[Operation, Any, bool]:
        """A plain call is given so much time for its whole answer."""
        timeout = None if self._prompt is None else self._prompt.timeout
        return timeout is not None and (yield Elapsed()) - began > timeout

    # After it

    @property
    def is_waited_for(self) -> bool:
        """Whether others may be waiting until this call's answer begins."""
        return self._led is not None

    def begun(self, message: Any) -> Step:
        """The answer has begun: what it says of the prompt cache is true, and others may go."""
        usage, prompt, bill = Usage.of(message), self._prompt, self._bill
        if prompt is None or bill is None or self._is_noted or usage is None:
            return
        self._is_noted = True
        lived: tuple[Living, ...] | None = ()
        try:
            if not self._is_away:
                lived = yield Note(prompt, tuple(prompt.marks(usage)), usage.read, self._token)
                self._led = None
                yield from self._learn(prompt, usage)
        except Unavailable:
            self._is_away = True
        if lived is not None:
            bill.count(usage, lived, self._way, message)

    def unseen(self) -> Step:
        """The answer has begun, or has been, and nobody can tell what it says: it will have written what it could."""
        if self._prompt is None or self._led is None:
            return
        with suppress(Unavailable):
            yield Note(self._prompt, tuple(self._prompt.guesses()), 0, self._token)
        self._led = None

    def over(self, called: Called) -> Step:
        """However it ended."""
        yield from self.begun(called.message)
        if self._prompt is not None and self._bill is not None:
            self._bill.close()
        if isinstance(called.outcome, Answer):
            yield from self.unseen()
        yield from self.quit(has_failed=True)

    def quit(self, *, has_failed: bool = False) -> Step:
        """Lets go of the lease, where it is still held."""
        prompt, led, self._led = self._prompt, self._led, None
        if prompt is None or led is None:
            return
        with suppress(Unavailable):
            yield Quit(prompt, led.token, has_failed)

    def _learn(self, prompt: Prompt, usage: Usage) -> Step:
        living = self._way.living
        if living is None or living.is_read:
            return
        if usage.written and not was_read(usage, living):
            yield Observe(prompt, living.at, self._gap, read=False)
        elif was_read(usage, living) and self._way.lag.is_known:
            yield Observe(prompt, living.at, self._gap, read=True)
