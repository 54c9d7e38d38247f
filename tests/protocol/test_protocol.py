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
from tests.protocol.search import Found, search, steps, walk
from tests.protocol.state import Copy, State
from tests.protocol.world import World
from tests.protocol.worlds import COPIED, OWN, PINNED, PLAIN, PURGED, PURGED_COPY, STRICT, WORLDS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "protocol.md"


LITTLE = (
    "a cluster that reads the entry first",
    "a cluster that reads the stamps first",
    "strict and stale",
    "a copy, counted before it is read",
)


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


KEPT = {
    "a copy": COPIED,
    "a copy, a purge": PURGED_COPY,
    "a pin": PINNED,
    "a pin, a purge": replace(PINNED, savers=PURGED.savers),
}
QUIET = {
    "nobody saves": World((), (PLAIN,) * 3),
    "another tenant's document is saved": World(((1,),), (PLAIN,) * 3, tags=2, hangs=1, in_use=True),
    "strict, another tenant's document is saved": World(((1,),), (STRICT,) * 2, tags=2, hangs=1, compacts=True),
    "copies are kept, another tenant's document is saved": World(
        ((1,),), (PLAIN,) * 3, tags=2, hangs=1, copies="row first"
    ),
}
AT_WORK = ("led", "recalled", "called", "checked")


@pytest.mark.parametrize("name", QUIET)
def test_there_is_one_call_and_nobody_misses_what_is_kept_when(name: str) -> None:
    said = set()
    for state, step, _ in taken(QUIET[name]):
        called = state.redis.entry or any(reader.step in AT_WORK for reader in state.readers)
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


@pytest.mark.parametrize("name", ["a copy", "a copy, a purge", "a pin", "a pin, a purge"])
def test_what_the_database_keeps_is_served_until_it_is_outdated_and_then_another_is_kept(name: str) -> None:
    served = set()
    for state, copy, step in compared(KEPT[name]):
        if step.endswith(("takes the copy", "takes what is pinned")):
            assert copy.version == state.database.version
            served.add(copy.version)
    assert served == {0, 1}


def test_no_copy_that_lives_is_passed_over() -> None:
    for state, copy, step in compared(COPIED):
        assert step.endswith("takes the copy") == (copy.version == state.database.version)


def test_who_finds_a_copy_puts_it_back_and_the_next_one_hits() -> None:
    follow(
        COPIED,
        "reader 0 looks, and misses",
        "reader 0 captures all stamps",
        "reader 0 leads",
        "reader 0 finds a copy of version 0",
        "reader 0 counts the generations, and takes the copy",
        "reader 0 has its answer, and finds its stamps standing",
        "reader 0 stores its answer",
        "reader 1 looks, and hits",
    )


def test_who_comes_after_a_purge_takes_over_and_who_waited_looks_again() -> None:
    state = follow(
        replace(PURGED, readers=(PLAIN,) * 3),
        "reader 0 looks, and misses",
        "reader 0 captures all stamps",
        "reader 0 leads, and calls upstream with version 0",
        "reader 1 looks, and misses",
        "reader 1 waits",
        "saver 0 commits the purge of what is older than version 1",
        "saver 0 deletes the entry and its mark",
        "saver 0 marks its rows, and returns",
        "reader 2 looks, and misses",
        "reader 2 leads, and calls upstream with version 1",
        "reader 1 waits",
        "reader 0 has its answer, and finds its stamps standing",
        "reader 0 comes too late to store",
        "reader 2 has its answer, and finds its stamps standing",
        "reader 2 stores its answer",
    )
    assert {reader.step for reader in state.readers} == {"done"}
    assert state.redis.entry
    assert state.redis.entry.version == 1


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


def follow(world: World, *said: str) -> State:
    state = world.start()
    for each in said:
        (state,) = (after for step, after in steps(state, world) if step == each)
    return state


def compared(world: World) -> Iterator[tuple[State, Copy, str]]:
    """Each step in which a reader counts after it has found something in the database, and what it has found."""
    for state, step, _ in taken(world):
        at = re.match(r"reader (\d)", step)
        reader = state.readers[int(at[1])] if at else None
        if reader and reader.copy and reader.step in ("claimed", "recalled"):
            yield state, reader.copy, step


def taken(world: World) -> list[tuple[State, str, State]]:
    """Each step that is possible."""
    with untraced():
        return list(walk(world))


def smaller(world: World) -> Iterator[World]:
    """With one actor, eviction or restart fewer, with one opinion of the server, or with less in the database."""
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
    if world.kept:
        yield replace(world, kept=False)
    if world.pins:
        yield replace(world, pins=False)
    if world.copies:
        yield replace(world, copies="", kept=False, pins=False)
