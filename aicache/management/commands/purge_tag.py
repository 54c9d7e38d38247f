from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from aicache.conf import get_settings
from aicache.errors import ArgumentError
from aicache.freshness.databases import silent
from aicache.purge import GLOB, Outcome, Purge, carry_out_and_count, matching, sizes, whose
from aicache.store.tags import MANY
from aicache.tenants import Everybody, Tenant


class Command(BaseCommand):
    help = (
        "Makes every answer that hangs on a tag die, at once and in every process, and says how many there are. While "
        "Redis is out of reach the purge is written and pending: stderr says so, and it is no failure."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tags", nargs="+", metavar="TAG", help="such as shop.product:42, shop.product or prices")
        whose = parser.add_mutually_exclusive_group()
        whose.add_argument("--tenant", metavar="T", help='whose answers; else whoever AICACHE["TENANT"] names')
        whose.add_argument("--all-tenants", action="store_true", help="everybody's answers, however many tenants")
        parser.add_argument("--dry-run", action="store_true", help="says what would die, and lets it live")
        parser.add_argument("--pattern", action="store_true", help="each TAG is a glob (* ? [) of names in use")

    def handle(
        self,
        *args: Any,
        tags: list[str],
        tenant: str | None,
        all_tenants: bool,
        dry_run: bool,
        pattern: bool,
        **options: Any,
    ) -> None:
        try:
            owner = whose(tenant, all_tenants=all_tenants)
            purge = Purge.of(self._matched(tags, owner) if pattern else tags, owner)
        except ArgumentError as error:
            raise CommandError(str(error)) from error
        if not pattern and (globs := [name for name in purge.names if GLOB.search(name)]):
            raise CommandError(
                f"{', '.join(globs)} looks like a glob, which would be taken for a name; add --pattern to purge what "
                "it matches (there, [*] means the character itself)"
            )
        if not purge.names:
            self._say("No tag in use matches. Nothing was purged.")
        elif dry_run:
            self._show(purge, sizes(purge.tags))
            self._say("Nothing was purged: this was a dry run.")
        else:
            outcome, counts = carry_out_and_count(purge, cause="manage.py purge_tag")
            self._tell(outcome)
            self._show(purge, counts)

    def _tell(self, outcome: Outcome) -> None:
        match outcome:
            case Outcome.IN_FORCE:
                self._say(self.style.SUCCESS("Purged: no answer that hung on these tags is served any more."))
            case Outcome.UNCOMMITTED:
                self._say("Written; in force when the transaction that is open around this has committed.")
            case Outcome.PENDING:
                self._say(self.style.WARNING("Written, and pending: applied by the next drain."))
                self._warn(
                    "pending: Redis is out of reach. manage.py drain_invalidations or its Celery task applies the "
                    "purge, and so does each process before it trusts Redis again."
                )

    def _matched(self, patterns: list[str], owner: Tenant) -> list[str]:
        found: dict[str, None] = {}
        for pattern in patterns:
            names, asked = matching(pattern, owner)
            self._say(f"{pattern} matches {len(names)} of the tags in use")
            if not asked:
                self._warn("Redis is out of reach: only the names that the database knows were matched.")
            found.update(dict.fromkeys(names))
        for alias in silent():
            self._warn(f"the database {alias!r} does not answer: the names that it alone knows were not matched.")
        return sorted(found)

    def _show(self, purge: Purge, counts: list[int | None]) -> None:
        shown = ["?" if count is None else str(count) for count in counts]
        total = "?" if None in counts else str(sum(count or 0 for count in counts))
        width = max(map(len, [*shown, total]))
        self._say(
            *(f"{text:>{width}}  {name}" for name, text in zip(purge.names, shown, strict=True)),
            f"{total:>{width}}  answers in all{_whose(purge.tenant)}{_beware(counts)}",
        )

    def _say(self, *lines: str) -> None:
        with _if_somebody_reads():
            for line in lines:
                self.stdout.write(line)

    def _warn(self, text: str) -> None:
        with _if_somebody_reads():
            self.stderr.write(text, self.style.WARNING)


def _if_somebody_reads() -> AbstractContextManager[None]:
    """Nothing stops a purge: not the end of a pipe, nor a closed stream, which to Django is a None without a method."""
    return suppress(OSError, AttributeError)


def _whose(tenant: Tenant | None) -> str:
    if isinstance(tenant, Everybody):
        return ", everybody's"
    return "" if get_settings().single_tenant else f", of {tenant!r}"


def _beware(counts: list[int | None]) -> str:
    if None in counts:
        return "; they cannot be counted while Redis is out of reach"
    words = ["one that hangs on two of these counts twice"] * (len(counts) > 1)
    words += [f"from {MANY} on a number is about right"] * any(count is not None and count >= MANY for count in counts)
    return "".join(f"; {word}" for word in words)
