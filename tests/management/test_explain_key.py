from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

BODY: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "How do I get a refund?"}],
}


def explain(folder: Path, left: Any, right: Any) -> str:
    paths = folder / "A.json", folder / "B.json"
    for path, request in zip(paths, (left, right), strict=True):
        path.write_text(request if isinstance(request, str) else json.dumps(request))
    out = StringIO()
    call_command("explain_key", *map(str, paths), stdout=out, no_color=True)
    return out.getvalue()


def test_equal_requests_have_one_key(tmp_path: Path) -> None:
    assert "The same key: one answer serves both." in explain(tmp_path, BODY, dict(reversed(BODY.items())))


def test_it_names_the_part_and_both_values(tmp_path: Path) -> None:
    told = explain(tmp_path, BODY, {**BODY, "max_tokens": 200})
    assert "Two keys, because:\n  body.max_tokens: 100 here, 200 there" in told


def test_it_finds_the_word_that_differs_deep_inside(tmp_path: Path) -> None:
    other = {**BODY, "messages": [{"role": "user", "content": "How do I get a refund, please?"}]}
    assert 'body.messages[0].content[0].text: "How do I get a refund?" here' in explain(tmp_path, BODY, other)


def test_it_names_what_only_one_has(tmp_path: Path) -> None:
    told = explain(tmp_path, BODY, {"body": {**BODY, "temperature": 0.5}, "locale": "de"})
    assert "body.temperature: only the second has it, 0.5" in told
    assert 'locale: "" here, "de" there' in told


def test_it_says_what_is_left_out_and_why(tmp_path: Path) -> None:
    told = explain(tmp_path, BODY, {**BODY, "metadata": {"user_id": "7"}, "stream": True})
    assert "The same key" in told
    assert "body.metadata: only the second has it" in told
    assert "because it is who asks" in told


def test_shorthand_is_said_to_be_the_same_meaning(tmp_path: Path) -> None:
    block = {**BODY, "messages": [{"role": "user", "content": [{"type": "text", "text": "How do I get a refund?"}]}]}
    told = explain(tmp_path, BODY, block)
    assert "The same key" in told
    assert "the same meaning in another form" in told


def test_tenants_are_apart_whatever_the_keys_are(tmp_path: Path) -> None:
    told = explain(tmp_path, {"body": BODY, "tenant": "acme"}, {"body": BODY, "tenant": "globex"})
    assert "Never shared: the tenants differ ('acme', 'globex')" in told


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "A.json"),
        ("[]", "holds list; accepted: a request body"),
        ({"body": BODY, "header": {}}, "has header; accepted beside 'body': path"),
    ],
)
def test_a_file_of_no_use_is_named(tmp_path: Path, given: Any, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        explain(tmp_path, given, BODY)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"nothing\.json"):
        call_command("explain_key", str(tmp_path / "nothing.json"), str(tmp_path / "nothing.json"))
