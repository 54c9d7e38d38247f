from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from textwrap import indent
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from example_project.children import Children
from example_project.helpcentre.card import duration
from example_project.tour.records import Outcome, Run
from example_project.tour.stage import Stage
from example_project.tour.step import Step
from example_project.tour.steps import STEPS
from example_project.tour.table import MARGIN, table
from example_project.tour.terminal import Terminal
from example_project.tour.upstream import CountedStandIn, Door, Upstream
from example_project.tour.worker import WorkerLost

LATENCY = 1.0


class Command(BaseCommand):
    help = "Shows in less than a minute what aicache promises, and checks it. Fails if a promise is broken."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--real", action="store_true", help="ask the real Claude; costs some cents, needs ANTHROPIC_API_KEY"
        )
        numbers = range(1, len(STEPS) + 1)
        parser.add_argument("--steps", type=int, nargs="+", choices=numbers, default=numbers, help="only these")

    def handle(self, *args: Any, **options: Any) -> None:
        key = os.environ.get("ANTHROPIC_API_KEY", "")
        if options["real"] and not key:
            raise CommandError("--real asks the real Claude, which costs money: set ANTHROPIC_API_KEY first.")
        terminal = Terminal(options.get("stdout") or sys.stdout)
        upstream: Upstream = Door(key) if options["real"] else CountedStandIn(LATENCY)
        try:
            with tempfile.TemporaryDirectory(prefix="aicache-") as folder, Children() as children:
                chosen = [STEPS[number - 1] for number in options["steps"]]
                outcomes = self._tour(chosen, terminal, children, Path(folder), upstream)
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=130) from None
        broken = sum(bool(outcome.wrong) for outcome in outcomes)
        if broken:
            raise CommandError(f"{broken} of {len(outcomes)} promises were not kept.")
        terminal.say(terminal.green(f"All {len(outcomes)} promises were kept."))

    def _tour(
        self, steps: list[type[Step]], terminal: Terminal, children: Children, folder: Path, upstream: Upstream
    ) -> list[Outcome]:
        with terminal.under_way("Starting Valkey and 5 worker processes"):
            began = time.monotonic()
            stage = Stage(children, folder, upstream, terminal.columns - len(MARGIN))
        terminal.say(f"{terminal.mark(True)} Valkey and 5 worker processes are up {_after(terminal, began)}")
        outcomes = []
        for number, step in enumerate(steps, 1):
            line = f"{number}/{len(steps)} {step.name}"
            with terminal.under_way(line):
                began = time.monotonic()
                outcomes.append(_outcome(step(), stage))
            terminal.say(f"{terminal.mark(not outcomes[-1].wrong)} {line} {_after(terminal, began)}")
        terminal.say()
        for line in table(outcomes, terminal):
            terminal.say(line)
        for outcome in outcomes:
            if outcome.run.printed:
                terminal.say(f"\n{MARGIN}{terminal.bold(f'{outcome.name}:')}\n")
                terminal.say(indent(outcome.run.printed.strip(), MARGIN))
        terminal.say()
        if any(outcome.wrong for outcome in outcomes) and (log := stage.log(20)):
            terminal.say(f"What the worker processes logged last:\n{log}\n")
        return outcomes


def _outcome(step: Step, stage: Stage) -> Outcome:
    before, began = stage.upstream.count(), time.monotonic()
    try:
        run = step.run(stage)
    except (WorkerLost, OSError) as error:
        seconds = time.monotonic() - began
        return Outcome(step.name, step.promise, Run([]), seconds, 0, (f"it broke off: {error}",))
    seconds = time.monotonic() - began
    outcome = Outcome(step.name, step.promise, run, seconds, stage.upstream.count() - before)
    return Outcome(step.name, step.promise, run, seconds, outcome.calls, tuple(step.check(outcome, stage)))


def _after(terminal: Terminal, began: float) -> str:
    return terminal.dim(f"· {duration(time.monotonic() - began)}")
