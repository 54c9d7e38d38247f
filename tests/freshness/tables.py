"""A further database for a test, with the tables of the library and of aicache."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.db import connections


@contextmanager
def database(alias: str, **chosen: Any) -> Iterator[Any]:
    """Yields its connection."""
    connections.databases[alias] = {**connections.databases["default"], **chosen}
    connection: Any = connections[alias]
    try:
        with connection.constraint_checks_disabled(), connection.schema_editor() as editor:
            for label in ("library", "aicache"):
                for model in apps.get_app_config(label).get_models():
                    if not model._meta.proxy:
                        editor.create_model(model)
        yield connection
    finally:
        connection.close()
        del connections.databases[alias]
        del connections[alias]


def in_a_thread(alias: str, work: Callable[[], Any]) -> Callable[..., bool]:
    """Starts it on a connection of its own, closed afterwards.

    Returns what waits for it: raises what it raised, and says whether it goes on.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised to who waits
            errors.append(error)
        finally:
            connections[alias].close()

    thread = threading.Thread(target=run)
    thread.start()

    def wait(seconds: float | None = None) -> bool:
        thread.join(seconds)
        if errors:
            raise errors[0]
        return thread.is_alive()

    return wait
