"""On what terms a policy lets its calls wait at the prompt-cache gate: so long, and at such a price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

Settle = float | Literal["adaptive", "off"]
Leader = Literal["stream", "plain", "prewarm"]

MEASURE: Final = "measure"
ADAPTIVE: Final = "adaptive"
OFF: Final = "off"
LEADERS: Final = ("stream", "plain", "prewarm")
# Nobody's upstream takes longer to make a prefix readable; and no lock takes infinity.
LONGEST_WAIT: Final = 3600.0
MOST_USD: Final = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Terms:
    """``settle``: seconds that a call waits after the prefix that it builds on began to be written; ``"adaptive"``: as
    many as have been found to be needed; ``"off"``: there is no gate.
    ``max_wait``: a call waits no longer than so many seconds, for whatever.
    ``latency_value``: what a second of waiting costs, in USD: nobody waits for less than that is worth.
    ``leader``: how a plain call is made for which others wait: ``"stream"``, as a stream that is put together again, so
    that they need not wait for its end; ``"plain"``, as it is; ``"prewarm"``, after another with ``max_tokens: 0``.
    """

    settle: Settle = OFF
    max_wait: float = 10.0
    latency_value: float = 0.0
    leader: Leader = "stream"

    @property
    def is_gated(self) -> bool:
        return self.settle != OFF


MEASURED: Final = Terms()


def terms_of(given: Any) -> Terms:
    """What a policy's ``prompt_cache`` means. Raises ValueError that names the key, what was given and what is
    accepted, with the name of the field first."""
    known = [field.name for field in fields(Terms)]
    if given == MEASURE:
        return MEASURED
    if not isinstance(given, Mapping):
        raise _refused("prompt_cache", given, f'"{MEASURE}" or a dict of {", ".join(known)}')
    for name in given:
        if name not in known:
            raise ValueError(f"prompt_cache has the unknown key {name!r}; accepted: {', '.join(known)}")
    if "settle" not in given:  # to name the gate is to consent to waiting; whoever does says how long
        raise ValueError(f'prompt_cache is {given!r}, without the key "settle"; accepted: {ACCEPTED["settle"]}')
    terms = Terms(**given)
    if terms.settle not in (ADAPTIVE, OFF):
        _number("settle", terms.settle, LONGEST_WAIT)
    _number("max_wait", terms.max_wait, LONGEST_WAIT)
    _number("latency_value", terms.latency_value, MOST_USD)
    if terms.leader not in LEADERS:
        raise _refused("prompt_cache.leader", terms.leader, ACCEPTED["leader"])
    return terms


ACCEPTED: Final[Mapping[str, str]] = {
    "settle": f'"{ADAPTIVE}", "{OFF}", or seconds from 0 to {LONGEST_WAIT:g}',
    "max_wait": f"seconds from 0 to {LONGEST_WAIT:g}",
    "latency_value": f"USD per second, from 0 to {MOST_USD:g}",
    "leader": " or ".join(f'"{leader}"' for leader in LEADERS),
}


def _number(name: str, value: Any, most: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= most:
        raise _refused(f"prompt_cache.{name}", value, ACCEPTED[name])


def _refused(name: str, value: Any, accepted: str) -> ValueError:
    return ValueError(f"{name} is {value!r}; accepted: {accepted}")
