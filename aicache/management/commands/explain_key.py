from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from aicache.core.difference import MISSING, Difference, differences
from aicache.core.fingerprint import Question, Unkeyable, fingerprint

PARTS = ("path", "base_url", "headers", "query", "locale", "tags", "vary", "variant", "tenant")
WIDTH = 60


class Command(BaseCommand):
    help = (
        "Says in words which part makes two requests differ. Each file holds a request body as it is sent, or an "
        f"object with 'body' and any of: {', '.join(PARTS)}."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("left", type=Path, metavar="A.json")
        parser.add_argument("right", type=Path, metavar="B.json")

    def handle(self, *args: Any, left: Path, right: Path, **options: Any) -> None:
        (a, tenant_a), (b, tenant_b) = _question(left), _question(right)
        try:
            keys = fingerprint(a).key, fingerprint(b).key
        except Unkeyable as error:
            raise CommandError(f"a body cannot be keyed: {error}") from error
        found = differences(a, b)
        matters = [difference for difference in found if difference.matters]
        noise = [difference for difference in found if not difference.matters]
        for path, key in zip((left, right), keys, strict=True):
            self.stdout.write(f"{key}  {path}")
        if tenant_a != tenant_b:
            self.stdout.write(
                f"\nNever shared: the tenants differ ({tenant_a!r}, {tenant_b!r}), whatever the keys are."
            )
        elif keys[0] == keys[1]:
            self.stdout.write(self.style.SUCCESS("\nThe same key: one answer serves both."))
        else:
            self.stdout.write(self.style.WARNING("\nTwo keys, because:"))
        for difference in matters:
            self.stdout.write(f"  {_words(difference)}")
        if noise:
            self.stdout.write("\nDifferent, but left out of the key:")
        for difference in noise:
            self.stdout.write(f"  {_words(difference)}\n    because it is {difference.why}")


def _question(path: Path) -> tuple[Question, Any]:
    """Raises CommandError that names the file and what is wrong in it."""
    try:
        given = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: {error}") from error
    if not isinstance(given, Mapping):
        raise CommandError(f"{path} holds {type(given).__name__}; accepted: a request body, or an object with 'body'")
    if not isinstance(given.get("body"), Mapping):
        given = {"body": given}
    if unknown := sorted(set(given) - {"body", *PARTS}):
        raise CommandError(f"{path} has {', '.join(unknown)}; accepted beside 'body': {', '.join(PARTS)}")
    try:
        question = Question(
            path=given.get("path", "/v1/messages"),
            base_url=given.get("base_url", ""),
            body=given["body"],
            headers=dict(given.get("headers", {})),
            query=tuple((str(name), str(value)) for name, value in dict(given.get("query", {})).items()),
            locale=given.get("locale", ""),
            tags=frozenset(given.get("tags", ())),
            vary=tuple(map(str, given.get("vary", ()))),
            variant=given.get("variant", 0),
        )
    except (TypeError, ValueError) as error:
        raise CommandError(f"{path}: {error}") from error
    return question, given.get("tenant")


def _words(difference: Difference) -> str:
    left, right = _shown(difference.left), _shown(difference.right)
    if difference.left == MISSING:
        return f"{difference.path}: only the second has it, {right}"
    if difference.right == MISSING:
        return f"{difference.path}: only the first has it, {left}"
    return f"{difference.path}: {left} here, {right} there"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}… ({len(text)} characters)"
