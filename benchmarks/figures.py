"""Figures and how they are shown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import median, quantiles


def p99(values: Sequence[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[98]


def title(words: str) -> None:
    print(f"\n{words}\n{'─' * len(words)}", flush=True)


def progress(words: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K  {words}", end="", file=sys.stderr, flush=True)


def row(name: str, values: Sequence[float], floor: Sequence[float] | None = None, unit: str = "ms") -> None:
    """A median and a 99th percentile, in seconds given, with their ratios to the floor's."""
    scale = {"ms": 1e3, "µs": 1e6}[unit]
    progress("\r")
    told = f"  {name:<34} median {median(values) * scale:8.1f} {unit}   p99 {p99(values) * scale:8.1f} {unit}"
    if floor is not None:
        told += f"   ratio {median(values) / median(floor):5.2f}   {p99(values) / p99(floor):5.2f}"
    print(told, flush=True)
