"""The torture in short, and proof that it can fail: small mistakes in the product, each found within seconds."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import SERVICES
from tests.torture.cells import LEAST, TENANTS, cells_for, questions_of

ROOT = Path(__file__).parent.parent.parent
SMALL = ("--writers", "4", "--readers", "6", "--cells", "12")


def torture(*arguments: str) -> tuple[int, str]:
    """→ the exit code, and all that it said."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.torture", *SMALL, *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return ran.returncode, ran.stdout + ran.stderr


def figure(name: str, said: str) -> int:
    found = re.search(rf"^ +{name} +([\d,]+)", said, re.MULTILINE)
    assert found, said
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize("number", [LEAST, 12, 32])
def test_there_are_questions_whatever_the_seed(number: int) -> None:
    for seed in range(500):
        rng = random.Random(seed)
        asked = questions_of(cells_for(number, 4, rng), rng)
        assert {question.tenant for question in asked} >= set(TENANTS), seed


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def test_no_answer_is_stale_whoever_is_killed(database: str) -> None:
    if database in SERVICES and (trouble := SERVICES[database].trouble()):
        pytest.skip(f"{database} does not answer: {trouble}")
    code, said = torture("--seconds", "7", "--hits", "150", "--database", database)
    assert code == 0, said
    assert figure("stale", said) == 0
    assert figure("reads", said) > 150
    assert figure("saves", said) > 10


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ["stamps-after-the-call", "no-epoch"])
def test_a_mistake_is_found(mutant: str) -> None:
    code, said = torture("--seconds", "60", "--database", "sqlite", "--mutant", mutant)
    assert code == 1, said
    assert figure("stale", said) > 0
