"""Real code, stopped between any two of its steps: each actor has a thread, and only one of them runs at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

# What no step takes. A run that stands still longer has lost its turn.
PATIENCE: Final = 30.0


class Ended(BaseException):
    """Somebody's end, which is nobody's error."""


class Killed(Ended):
    """The process is no more: nothing that its code would still do has any effect."""


class Dropped(Ended):
    """The caller alone is gone: a task that was cancelled, a soft time limit."""


class Life:
    """What dies at once: a process."""

    dead = False


class Actor:
    """``act`` under way. ``at``: the step that it takes next. ``held``: whether it waits for another, and cannot."""

    def __init__(self, name: str, life: Life, act: Callable[[], Any]) -> None:
        self.name = name
        self.life = life
        self.act = act
        self.at = "the beginning"
        self.held: Callable[[], bool] | None = None
        self.impatient = False
        self.dropped = False
        self.error: BaseException | None = None
        self.done = False
        self.back = threading.Lock()
        self.back.acquire()
        self._worker: _Worker | None = None

    @property
    def ready(self) -> bool:
        return not self.done and not (self.held is not None and self.held())

    def advance(self) -> None:
        """Gives it the turn, until it pauses or ends."""
        if self._worker is None:
            self._worker = _idle.pop() if _idle else _Worker()
            self._worker.actor = self
        self._worker.go.release()
        if not self.back.acquire(timeout=PATIENCE):
            raise RuntimeError(f"{self.name} took the turn at {self.at} and does not give it back")

    def drop(self) -> None:
        """Its cleaning up is steps again."""
        self.dropped = True
        self.advance()


class _Worker(threading.Thread):
    """A thread that actors have one after the other."""

    def __init__(self) -> None:
        super().__init__(name="freshness-machine", daemon=True)
        self.go = threading.Lock()
        self.go.acquire()
        self.actor: Actor | None = None
        self.start()

    def run(self) -> None:
        while True:
            self.go.acquire()
            actor, _turn.actor = self.actor, self.actor
            if actor is None:
                return
            try:
                actor.act()
            except Ended:
                pass
            except BaseException as error:  # noqa: BLE001 - whoever gave the turn looks at it
                actor.error = error
            actor.act = lambda: None  # what it remembers is forgotten with it: leases are held by objects
            actor.done = True
            _turn.actor = self.actor = None
            _idle.append(self)
            actor.back.release()


_turn = threading.local()
_idle: list[_Worker] = []


def pause(at: str, held: Callable[[], bool] | None = None) -> bool:
    """The end of a step. → whether the actor is to lose patience. Nothing in the machine's own thread."""
    actor: Actor | None = getattr(_turn, "actor", None)
    if actor is None:
        return False
    actor.at, actor.held = at, held
    worker: Any = actor._worker
    actor.back.release()
    worker.go.acquire()
    actor.held = None
    if actor.life.dead:
        raise Killed
    if actor.dropped:
        actor.dropped = False
        raise Dropped
    impatient, actor.impatient = actor.impatient, False
    return impatient


def current() -> Actor | None:
    return getattr(_turn, "actor", None)
