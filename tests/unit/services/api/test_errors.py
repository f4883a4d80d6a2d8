"""Pydantic's findings as a person would say them: a path without tags, a mend, and nothing of what was sent."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.api.errors import field_of, problems_of
from services.domain.job import JobSpec

WORKLOAD = {
    "requests": 1,
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 1}},
    "output_tokens": {"kind": "fixed", "tokens": 1},
}


def problems(**job: Any) -> dict[str, tuple[str, str]]:
    body = {"targets": ["a"], "workloads": [WORKLOAD]} | job
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(body)
    errors = [{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()]
    return {p.field: (p.problem, p.mend) for p in problems_of(errors, body)}


def test_union_tags_are_no_fields() -> None:
    found = problems(workloads=[WORKLOAD | {"output_tokens": {"kind": "uniform", "low": 5, "high": "x"}}])
    assert list(found) == ["workloads.0.output_tokens.high"]
    found = problems(workloads=[WORKLOAD | {"output_tokens": {"kind": "uniform", "low": 5, "high": 1}}])
    assert found == {
        "workloads.0.output_tokens": ("low must not be above high", "correct it as the message says"),
    }


def test_a_missing_field_is_named_in_full() -> None:
    found = problems(workloads=[{"requests": 1, "prompts": {"kind": "text", "text": "x"}}])
    assert found == {"workloads.0.output_tokens": ("Field required", "add it")}


def test_mends_carry_the_limit() -> None:
    assert problems(repeats=0)["repeats"][1] == "give 1 or more"
    assert problems(repeats=9999)["repeats"][1] == "give 1000 or less"
    assert problems(order="x")["order"][1] == "give one of 'interleaved', 'grouped' or 'abba'"
    assert "spelling" in problems(repeat=1)["repeat"][1]


def test_what_was_sent_is_not_repeated() -> None:
    url = "http://user:secret-word@h"
    target = {"name": "t", "engine": "vllm", "model": "m", "reach": {"kind": "attached", "url": url}}
    found = problems(targets=[target])
    assert list(found) == ["targets.0.reach.url"]
    assert "secret-word" not in str(found)


def test_an_unstorable_text_is_named_at_its_own_place() -> None:
    assert list(problems(labels={"team": "a\x00"})) == ["labels.team"]


@pytest.mark.parametrize(
    ("location", "field"),
    [
        (("query", "limit"), "limit"),
        (("path", "job_id"), "job_id"),
        (("header", "idempotency-key"), "Idempotency-Key"),
        (("body",), ""),
        ((), ""),
    ],
)
def test_where_it_stood(location: tuple[str, ...], field: str) -> None:
    assert field_of(location, "missing", {}) == field
