"""The golden vectors: requests whose keys are pinned, so that a release does not empty every site's cache by accident.

Where a key changes on purpose, raise FORMAT in aicache/core/fingerprint.py and run `python -m tests.core.vectors`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aicache.core.fingerprint import Question, fingerprint

FILE = Path(__file__).with_suffix(".json")


def vectors() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(FILE.read_text())
    return found


def asked(question: dict[str, Any]) -> Question:
    return Question(
        **{
            **question,
            "query": tuple((name, value) for name, value in question.get("query", ())),
            "tags": frozenset(question.get("tags", ())),
            "vary": tuple(question.get("vary", ())),
        }
    )


if __name__ == "__main__":
    written = []
    for vector in vectors():
        made = fingerprint(asked(vector["question"]))
        written.append({**vector, "key": made.key, "lineage": made.lineage})
    FILE.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n")
