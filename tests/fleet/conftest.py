from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.place import Place, a_place
from tests.places import ON


@pytest.fixture(params=ON)
def place(request: Any, tmp_path: Path, django_db_blocker: Any) -> Iterator[Place]:
    with a_place("crashes", request.param, tmp_path, django_db_blocker) as made:
        yield made
