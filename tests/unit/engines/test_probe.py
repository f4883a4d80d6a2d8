"""Names that mean one model, and errors in better words."""

from __future__ import annotations

import pytest

from engines.contract import Failure, FailureKind
from engines.errors import TargetUnavailable
from engines.probe import check_model, is_same_model, wrong_model


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("m", "m"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen/qwen2.5-7b-instruct"),
        ("/models/tiny", "/models/tiny@main"),
        ("tiny", "/models/tiny"),
        ("Qwen/Qwen2.5-7B-Instruct", "/data/Qwen2.5-7B-Instruct"),
        ("gpt-4o", "gpt-4o-2024-08-06"),
    ],
)
def test_one_model_under_two_names(asked: str, answered: str) -> None:
    assert is_same_model(asked, answered)


@pytest.mark.parametrize(
    ("asked", "answered"), [("Qwen2.5-7B", "Qwen2.5-7B-Instruct"), ("mistral-v0.2", "mistral-v0.3"), ("a", "b")]
)
def test_two_models(asked: str, answered: str) -> None:
    assert not is_same_model(asked, answered)


def test_a_server_that_generates_with_another_model_is_not_the_target() -> None:
    with pytest.raises(TargetUnavailable, match="generates with other, not with 'mine': mend model") as wrong:
        check_model("mine", "other", ())
    assert wrong.value.field == "model"


def test_an_answer_without_a_name_is_judged_by_the_list() -> None:
    check_model("mine", None, ("mine",))
    check_model("mine", None, ())
    with pytest.raises(TargetUnavailable):
        check_model("mine", None, ("other",))


def test_a_refused_model_is_told_with_the_models_that_are_served() -> None:
    error = TargetUnavailable("404", failure=Failure(FailureKind.REJECTED, "404", 404))
    better = wrong_model(error, "mine", ("a", "b"))
    assert str(better) == "the server does not serve 'mine'; it serves a, b: mend model"
    assert better.field == "model"
    assert better.failure == Failure(FailureKind.REJECTED, str(better), 404)


def test_a_refusal_that_is_not_about_the_model_stays_as_it_is() -> None:
    served = TargetUnavailable("400", failure=Failure(FailureKind.REJECTED, "400", 400))
    assert wrong_model(served, "mine", ("mine",)) is served
    down = TargetUnavailable("down", failure=Failure(FailureKind.CONNECT, "down"))
    assert wrong_model(down, "mine", ("other",)) is down
    assert wrong_model(served, "mine", ()) is served
