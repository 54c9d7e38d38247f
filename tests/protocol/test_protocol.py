"""The protocol has no counterexample; each known mistake has one; the page about it says what is so."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.protocol import __main__ as command
from tests.protocol.__main__ import numbered
from tests.protocol.mistakes import HARMLESS, LIMITS, MISTAKES, ROUGH
from tests.protocol.search import Found, search, walk
from tests.protocol.state import State
from tests.protocol.world import World
from tests.protocol.worlds import OWN, PLAIN, STRICT, WORLDS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "protocol.md"


LITTLE = ("a cluster that reads the entry first", "a cluster that reads the stamps first", "strict and stale")


@contextmanager
def untraced() -> Iterator[None]:
    """Coverage counts no lines in here: there are millions, and the same as in the little worlds and the mistakes'."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


def searched(world: World) -> Found:
    with untraced():
        return search(world)


@pytest.mark.parametrize("name", WORLDS)
def test_nothing_stale_is_served_in_the_world_of(name: str) -> None:
    found = search(WORLDS[name]) if name in LITTLE else searched(WORLDS[name])
    assert found.counterexample == ()
    assert found.states > 1000


@pytest.mark.parametrize("name", MISTAKES | LIMITS)
def test_a_counterexample_shows_the_mistake(name: str) -> None:
    world = (MISTAKES | LIMITS)[name].world
    *steps, last = search(replace(world, mistake=name)).counterexample
    assert steps
    assert last.startswith("STALE: ")


@pytest.mark.parametrize("name", MISTAKES | LIMITS)
def test_no_smaller_world_shows_the_mistake(name: str) -> None:
    for world in smaller((MISTAKES | LIMITS)[name].world):
        assert searched(replace(world, mistake=name)).counterexample == (), world


def test_without_its_mistake_a_world_is_safe() -> None:
    for world in {mistake.world for mistake in (MISTAKES | LIMITS).values()} - set(WORLDS.values()):
        assert searched(world).counterexample == (), world


@pytest.mark.parametrize("name", LIMITS)
def test_strict_readers_are_safe_beyond_the_limits_of_the_others(name: str) -> None:
    world = replace(LIMITS[name].world, readers=(STRICT, STRICT), mistake=name)
    assert searched(world).counterexample == ()


@pytest.mark.parametrize("name", HARMLESS)
def test_safety_does_not_rest_on(name: str) -> None:
    for world in ROUGH:
        assert searched(replace(world, mistake=name)).counterexample == ()


QUIET = {
    "nobody saves": World((), (PLAIN,) * 3),
    "another tenant's document is saved": World(((1,),), (PLAIN,) * 3, tags=2, hangs=1, in_use=True),
    "strict, another tenant's document is saved": World(((1,),), (STRICT,) * 2, tags=2, hangs=1, compacts=True),
}


@pytest.mark.parametrize("name", QUIET)
def test_there_is_one_call_and_nobody_misses_what_is_kept_when(name: str) -> None:
    said = set()
    for state, step, _ in taken(QUIET[name]):
        called = state.redis.entry or any(reader.step in ("called", "checked") for reader in state.readers)
        assert not (called and "leads" in step), step
        assert not (state.redis.entry and "looks, and misses" in step), step
        said.add(re.sub(r"\d", "0", step))
    assert {"reader 0 waits", "reader 0 stores its answer", "reader 0 finds an answer that came"} <= said
    assert any(step.endswith("hits") for step in said)


def test_what_was_saved_is_found_again_after_one_more_call() -> None:
    """A world in which savers kill everything for ever would be safe too."""
    hits = {
        state.redis.entry.version
        for state, step, _ in taken(World(((OWN,),), (PLAIN,) * 3))
        if state.redis.entry and step.endswith("hits")
    }
    assert hits == {0, 1}


def test_the_page_names_each_world_mistake_limit_and_variant() -> None:
    page = PAGE.read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", page, re.MULTILINE))
    expected = {name: mistake.says for name, mistake in (MISTAKES | LIMITS).items()} | HARMLESS
    assert rows == expected


def test_the_page_shows_a_counterexample_as_it_is_printed() -> None:
    name, shown = re.search(
        r"python -m tests\.protocol (\w+)\n```\n\n```text\n(.*?)```", PAGE.read_text(), re.DOTALL
    ).groups()
    steps = search(replace(MISTAKES[name].world, mistake=name), sorts=False).counterexample
    assert shown.splitlines() == list(numbered(steps))


def test_each_step_is_told_once_or_more_with_the_state_before_and_after() -> None:
    world = World((), (PLAIN,))
    said = [step for _, step, _ in walk(world)]
    assert said[0] == "reader 0 looks, and misses"
    assert said[-1] == "reader 0 stores its answer"


class TestCommand:
    def test_it_shows_a_mistake_step_by_step(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["ack_first"]) == 0
        said = capsys.readouterr().out
        assert "  1  reader 0 looks, and misses" in said
        assert "STALE: reader 1 must get version 1" in said

    def test_it_refuses_a_mistake_that_it_does_not_know(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            command.main(["no_such"])
        assert "no such mistake: no_such" in capsys.readouterr().err

    @pytest.mark.parametrize(("mistake", "code"), [("", 0), ("ack_first", 1)])
    def test_it_fails_where_a_world_is_not_safe(
        self, mistake: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(command, "WORLDS", {"a small one": World(((OWN,),), mistake=mistake)})
        monkeypatch.setattr(command, "MISTAKES", {"blind_lead": MISTAKES["blind_lead"]})
        monkeypatch.setattr(command, "LIMITS", {})
        monkeypatch.setattr(command, "ROUGH", (World(((OWN,),), (PLAIN,)),))
        assert command.main([]) == code
        said = capsys.readouterr().out
        assert re.search(r"a small one .* states .* " + ("STALE after 7 steps" if mistake else "never stale"), said)


def taken(world: World) -> list[tuple[State, str, State]]:
    """Each step that is possible."""
    with untraced():
        return list(walk(world))


def smaller(world: World) -> Iterator[World]:
    """With one actor, eviction or restart fewer, or with one opinion of the server."""
    for who in ("savers", "readers"):
        for at in range(len(getattr(world, who))):
            lists = {name: getattr(world, name) for name in (who, f"homes_of_{who}", f"opinions_of_{who}")}
            fewer = replace(world, **{name: each[:at] + each[at + 1 :] for name, each in lists.items()})
            if fewer.homes_of_savers or not world.homes_of_savers:
                yield fewer
    if any(world.opinions_of_savers + world.opinions_of_readers):
        yield replace(world, opinions_of_savers=(), opinions_of_readers=())
    if world.evictions:
        yield replace(world, evictions=world.evictions - 1)
    if world.restarts:
        yield replace(world, restarts=world.restarts - 1)
