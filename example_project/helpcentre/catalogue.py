"""What Acme sells: a text that is much longer than any question about it."""

from __future__ import annotations

from itertools import product
from typing import Final

KINDS: Final = ("tent", "rucksack", "sleeping bag", "jacket", "pair of boots", "kayak", "stove", "head torch")
NAMES: Final = (
    "Alder",
    "Birch",
    "Cedar",
    "Dogwood",
    "Elm",
    "Fir",
    "Gorse",
    "Hazel",
    "Ivy",
    "Juniper",
    "Larch",
    "Maple",
)
STOCK: Final = ("in the shop", "in the store, two days", "made to measure, three weeks")


def catalogue(edition: str) -> str:
    """About two thousand tokens. Two editions begin differently."""
    lines = [f"Acme's catalogue, edition {edition}. An article that is not in here is not sold."]
    for number, (kind, name) in enumerate(product(KINDS, NAMES)):
        price, weight = 29 + 17 * number % 400, 300 + 130 * number % 4000
        lines.append(
            f"{kind} “{name}”: {price}.90 euros, {weight} g, {STOCK[number % len(STOCK)]}, article {1000 + number}"
        )
    return "\n".join(lines)
