"""What makes two requests differ, in parts that a person can name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
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


class _Nothing(str):
    """Prints like text and is equal to none that a request may hold."""

    __slots__ = ()


MISSING: Final = _Nothing("(nothing)")
KEYED_APART: Final = {"anthropic-version": "version", "anthropic-beta": "betas."}
OTHER_FORM: Final = "the same meaning in another form"

Leaf = tuple[str, Any, Any]


def differences(left: Question, right: Question) -> list[Difference]:
    """What makes two requests differ, part by part: first what gives them other keys, then what is left out of keys.

    Raises Unkeyable where a request is no JSON.
    """
    found = []
    for mine, theirs in zip(_parts(left), _parts(right), strict=True):
        found += [Difference(path, a, b, True, "in the key") for path, a, b in _walk("", mine, theirs)]
    explained = [difference.path for difference in found]
    for path, a, b in _walk("body", left.body, right.body):
        if not any(other == path or other.startswith((f"{path}.", f"{path}[")) for other in explained):
            found.append(Difference(path, a, b, False, _why_in_body(path)))
    for name, a, b in _walk("", _noisy_headers(left), _noisy_headers(right)):
        if not any(other.startswith(KEYED_APART.get(name, name)) for other in explained):
            found.append(Difference(f"headers.{name}", a, b, False, _why_header(name)))
    return found


def _parts(question: Question) -> list[dict[str, Any]]:
    """The parts of the key; what is a set in it compares as one, so that what was added shows, not what moved."""
    return [
        {name: {item: item for item in part} if name in ("betas", "tags") else part for name, part in room.items()}
        for room in parts(question)
    ]


def _noisy_headers(question: Question) -> dict[str, str]:
    return {name.lower(): value for name, value in question.headers.items() if is_noise(name.lower())}


def _why_in_body(path: str) -> str:
    _, *names = path.replace("[", ".[").split(".")
    if names and names[0] in BODY_NOISE:
        return BODY_NOISE[names[0]]
    return BODY_NOISE["cache_control"] if "cache_control" in names else OTHER_FORM


def _why_header(name: str) -> str:
    if name in HEADER_NOISE:
        return HEADER_NOISE[name]
    return next(why for prefix, why in HEADER_NOISE_PREFIXES.items() if name.startswith(prefix))


def _walk(path: str, left: Any, right: Any) -> list[Leaf]:
    """The leaves in which two JSON values differ, each with its path."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        names = [*left, *(name for name in right if name not in left)]
        pairs = [
            (f"{path}.{name}" if path else name, left.get(name, MISSING), right.get(name, MISSING)) for name in names
        ]
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        longest = max(len(left), len(right))
        pairs = [
            (f"{path}[{at}]", left[at] if at < len(left) else MISSING, right[at] if at < len(right) else MISSING)
            for at in range(longest)
        ]
    elif left is not MISSING and right is not MISSING and canonical(left) == canonical(right):
        return []
    else:
        return [(path, left, right)]
    return [leaf for inner, a, b in pairs for leaf in _walk(inner, a, b)]


# A long conversation has many parts; so many are told apart, and what is left is one.
MOST_PARTS: Final = 400
Outline = dict[str, str]


def outline(question: Question, salt: bytes) -> Outline:
    """A short digest for each part that makes the lineage, by its path: to name later what differs, without a word of
    the request. Raises Unkeyable."""
    stable, _ = parts(question)
    found: Outline = {}
    rest: list[Any] = []
    for path, value in _portions(stable):
        if len(found) < MOST_PARTS:
            found[path.replace("\0", "\ufffd")] = _short(value, salt)
        else:
            rest.append(value)
    if rest:
        found["the rest"] = _short(rest, salt)
    return found


def departures(known: Mapping[str, str], question: Question, salt: bytes) -> tuple[str, ...]:
    """The paths at which a question is not the one that was outlined."""
    now = outline(question, salt)
    paths = [*known, *(path for path in now if path not in known)]
    return tuple(path for path in paths if known.get(path) != now.get(path))


def _portions(stable: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in stable.items():
        if name in ("body", "headers"):
            for field, inner in value.items():
                if isinstance(inner, list) and inner:
                    yield from ((f"{name}.{field}[{at}]", item) for at, item in enumerate(inner))
                else:
                    yield f"{name}.{field}", inner
        else:
            yield name, value


def _short(value: Any, salt: bytes) -> str:
    return hashlib.blake2b(canonical(value), key=salt, digest_size=6).hexdigest()
