"""A stored target with other flags: what each kind of target cannot be given, in words that fit it."""

from __future__ import annotations

import pytest

from engines.spec import Attached, Container, Launched, TargetSpec
from services.domain.errors import BadInput
from services.domain.job import JobSpec, resolve_arms

STORED = {
    "attached": TargetSpec(engine="vllm", model="m", reach=Attached(url="http://127.0.0.1:8000")),
    "launched": TargetSpec(engine="vllm", model="m", reach=Launched(model_path="m")),
    "contained": TargetSpec(engine="vllm", model="m", reach=Container(container="c", url="http://c:8000")),
}


def problem_of(like: str, **changes: object) -> tuple[str, str, str]:
    """What is said of an arm, and its field."""
    job = JobSpec.model_validate({"targets": [{"like": like, "name": "arm", **changes}], "workloads": ["w"]})
    with pytest.raises(BadInput) as refused:
        resolve_arms(job, STORED)
    (problem,) = refused.value.problems
    return problem.field, problem.problem, problem.mend


@pytest.mark.parametrize(
    ("like", "changes", "said"),
    [
        ("launched", {"url": "http://h"}, ("url", "the target is launched, not attached", "leave url out")),
        ("contained", {"url": "http://h"}, ("url", "the target is in a container, not attached", "leave url out")),
        ("attached", {"args": ["-x"]}, ("args", "the target is attached, not launched", "state them in flags")),
        (
            "contained",
            {"args": ["-x"]},
            (
                "args",
                "a container runs with what it was created with",
                "create one with these, and a target of its own",
            ),
        ),
    ],
)
def test_an_arm_is_told_what_its_target_is(like: str, changes: dict[str, object], said: tuple[str, str, str]) -> None:
    field, problem, mend = problem_of(like, **changes)
    assert (field.rpartition(".")[2], problem, mend) == said


def test_a_key_s_header_goes_along_to_an_arm() -> None:
    keyed = Attached(url="http://a", api_key_env="K", api_key_header="api-key")
    stored = {"keyed": STORED["attached"].model_copy(update={"reach": keyed})}
    arm = {"like": "keyed", "name": "arm", "url": "http://b"}
    job = JobSpec.model_validate({"targets": [arm], "workloads": ["w"]})
    (found,) = resolve_arms(job, stored)
    assert found.spec.reach == keyed.model_copy(update={"url": "http://b"})
