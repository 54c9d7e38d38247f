"""Real processes that save, and are killed in the middle of it, with ``kill -9``."""

from __future__ import annotations

import pytest

from aicache.models import Invalidation
from tests.fleet.place import Place, Saver, until

OF_ONE_SAVE = 2  # invalidations: of the row, and of whatever is made from all rows
BUDGET = 1.5  # seconds that a save takes at most while Redis is away, on a busy machine


def answered(process: Saver) -> tuple[str, str]:
    told = process("ask")
    return told["status"], told["text"]


@pytest.mark.parametrize(
    ("model", "before", "how"),
    [
        ("article", "INSERT", "autocommit"),  # the invalidation comes first where nothing of the row must be known
        ("article", "UPDATE", "autocommit"),
        ("article", "commit", "autocommit"),
        ("article", "commit", "atomic"),
        ("ticket", "UPDATE", "autocommit"),
        ("ticket", "INSERT", "autocommit"),
        ("ticket", "INSERT", "atomic"),
        ("ticket", "commit", "autocommit"),
    ],
)
def test_of_a_save_that_is_killed_nothing_is_left(place: Place, model: str, before: str, how: str) -> None:
    saver = place.process()
    assert saver("save", model=model, text="new", how=how, stop=before) == {"at": before}
    saver.kill()
    assert place.texts == ("old", "old")
    assert not Invalidation.objects.using(place.alias).exists()


@pytest.mark.parametrize("how", ["autocommit", "atomic", "failing hook"])
def test_what_was_committed_and_not_stamped_is_pending_and_drained(place: Place, how: str) -> None:
    reader, saver = place.process(), place.process()
    assert [answered(reader) for _ in range(2)] == [("miss", "old"), ("hit", "old")]
    assert saver("save", model="article", text="new", how=how, stop="stamp") == {"at": "stamp"}
    saver.kill()
    assert place.texts[0] == "new"
    assert place.pending == OF_ONE_SAVE
    assert place.process()("drain") == {"applied": OF_ONE_SAVE}
    assert place.pending == 0
    told = reader("ask")
    assert (told["status"], told["text"], told["reason"]) == ("miss", "new", "invalidated:library.article:1")
    assert answered(reader) == ("hit", "new")


def test_what_was_stamped_and_not_marked_is_drained_once_more_and_does_no_harm(place: Place) -> None:
    reader, saver = place.process(), place.process()
    assert answered(reader) == ("miss", "old")
    assert saver("save", model="article", text="new", stop="mark") == {"at": "mark"}
    assert [answered(reader) for _ in range(2)] == [("miss", "new"), ("hit", "new")]
    saver.kill()
    assert place.pending == OF_ONE_SAVE
    assert reader("drain") == {"applied": OF_ONE_SAVE}
    assert place.pending == 0
    assert [answered(reader) for _ in range(2)] == [("hit", "new")] * 2  # what died in Redis lives in its copy
    assert reader("drain") == {"applied": 0}


@pytest.mark.parametrize("how", ["killed", "put back", "hung"])
def test_a_save_without_redis_is_pending_until_redis_is_believed_again(place: Place, how: str) -> None:
    saver, other = place.process(), place.process()
    assert [answered(saver) for _ in range(2)] == [("miss", "old"), ("hit", "old")]
    assert answered(other) == ("hit", "old")
    if how == "put back":
        place.redis.save()
    if how == "hung":
        place.redis.hang()
    else:
        place.redis.kill()
    told = saver("save", model="article", text="new")
    assert told["failed"] == ""
    assert told["took"] < BUDGET
    assert place.pending == OF_ONE_SAVE
    assert "still pending" in place.process()("drain")["failed"]
    assert [answered(process) for process in (saver, other)] == [("degraded", "new")] * 2
    if how == "hung":
        place.redis.wake()
    else:
        place.redis.start()
    status, text = until(lambda: None if (told := answered(saver))[0] == "degraded" else told)
    assert place.pending == 0
    assert (status, text) in {("miss", "new"), ("hit", "new")}
    assert until(lambda: None if (told := answered(other))[0] == "degraded" else told)[1] == "new"
    assert answered(saver) == ("hit", "new")


def test_a_hook_of_the_site_that_fails_loses_nothing(place: Place) -> None:
    reader, saver = place.process(), place.process()
    assert answered(reader) == ("miss", "old")
    assert saver("save", model="article", text="new", how="failing hook")["failed"] == "the site's own hook"
    assert place.pending == 0
    assert answered(reader) == ("miss", "new")


def test_a_save_that_is_rolled_back_invalidates_nothing(place: Place) -> None:
    reader, saver = place.process(), place.process()
    assert answered(reader) == ("miss", "old")
    assert saver("save", model="article", text="new", how="rolled back")["failed"] == "rolled back"
    assert not Invalidation.objects.using(place.alias).exists()
    assert answered(reader) == ("hit", "old")
