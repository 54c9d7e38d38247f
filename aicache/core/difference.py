"""What makes two requests differ, in parts that a person can name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aicache.core.fingerprint import (
    BODY_NOISE,
    HEADER_NOISE,
    HEADER_NOISE_PREFIXES,
    Question,
    canonical,
    is_noise,
    parts,
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One part in which two requests differ: where, what each says, and whether it matters to the key."""

    path: str
    left: Any
    right: Any
    matters: bool
    why: str


MISSING: Final = "(nothing)"


def differences(left: Question, right: Question) -> list[Difference]:
    """What makes two requests differ, part by part: first what gives them other keys, then what is left out of keys."""
    found = []
    for mine, theirs in zip(parts(left), parts(right), strict=True):
        found += [Difference(path, a, b, True, "in the key") for path, a, b in _walk("", mine, theirs)]
    noise = [
        ("body", _noisy_fields(left), _noisy_fields(right)),
        ("headers", _noisy_headers(left), _noisy_headers(right)),
    ]
    for room, mine, theirs in noise:
        for path, a, b in _walk(room, mine, theirs):
            found.append(Difference(path, a, b, False, _why(path.split(".", 2)[1])))
    if not found and canonical(left.body) != canonical(right.body):
        found.append(Difference("body", "…", "…", False, "the same meaning in another form"))
    return found


def _noisy_fields(question: Question) -> dict[str, Any]:
    return {name: value for name, value in question.body.items() if name in BODY_NOISE}


def _noisy_headers(question: Question) -> dict[str, str]:
    return {name.lower(): value for name, value in question.headers.items() if is_noise(name.lower())}


def _why(name: str) -> str:
    for reasons in (BODY_NOISE, HEADER_NOISE):
        if name in reasons:
            return reasons[name]
    return next(why for prefix, why in HEADER_NOISE_PREFIXES.items() if name.startswith(prefix))


def _walk(path: str, left: Any, right: Any) -> list[tuple[str, Any, Any]]:
    """The leaves in which two JSON values differ, each with its path."""
    if isinstance(left, dict) and isinstance(right, dict):
        names = [*left, *(name for name in right if name not in left)]
        pairs = [
            (f"{path}.{name}" if path else name, left.get(name, MISSING), right.get(name, MISSING)) for name in names
        ]
    elif isinstance(left, list) and isinstance(right, list):
        longest = max(len(left), len(right))
        pairs = [
            (f"{path}[{at}]", left[at] if at < len(left) else MISSING, right[at] if at < len(right) else MISSING)
            for at in range(longest)
        ]
    elif type(left) is type(right) and left == right:
        return []
    else:
        return [(path, left, right)]
    return [leaf for inner, a, b in pairs for leaf in _walk(inner, a, b)]
