"""Room for the models, and a token that is never shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engines.launch.container_flags import MODELS
from services.cli.checks.finding import Finding, State
from services.cli.checks.models import GATED, ModelFacts, judge_models, read_models
from services.cli.doctor import token_found

ROOMY = ModelFacts("/var/lib/docker", 500_000_000_000, ".env")


def judged(facts: ModelFacts, *, wanted: bool = True, demanded: bool = False) -> dict[str, Finding]:
    return {one.check: one for one in judge_models(facts, wanted=wanted, demanded=demanded)}


def test_room_and_a_token_are_all_that_is_wanted() -> None:
    assert {one.state for one in judged(ROOMY).values()} == {State.OK}


def test_a_small_disk_is_told_with_what_is_wanted() -> None:
    found = judged(replace(ROOMY, free_bytes=45_000_000_000))["disk for models"]
    assert (found.state, "60 GB more" in found.seen) == (State.WARN, True)
    assert judged(replace(ROOMY, free_bytes=9_000_000_000))["disk for models"].state is State.FAIL


def test_what_is_there_already_needs_neither_room_nor_token() -> None:
    facts = replace(ROOMY, free_bytes=31_000_000_000, token_from=None, present=tuple(MODELS))
    assert {one.state for one in judged(facts, demanded=True).values()} == {State.OK}


def test_without_a_token_the_gated_model_is_named() -> None:
    found = judged(replace(ROOMY, token_from=None))["token for gated models"]
    assert found.state is State.WARN
    assert GATED[0] in found.seen
    assert f"https://huggingface.co/{GATED[0]}" in found.mend
    assert judged(replace(ROOMY, token_from=None), demanded=True)["token for gated models"].state is State.FAIL


def test_a_laptop_needs_none_of_it() -> None:
    small = ModelFacts("/", 1, None)
    assert {one.state for one in judged(small, wanted=False).values()} == {State.NOT_APPLICABLE}


def test_models_that_are_whole_are_seen_and_a_folder_that_is_not_there_is_its_parent(tmp_path: Path) -> None:
    name = next(iter(MODELS.values()))[1]
    (tmp_path / name).mkdir()
    (tmp_path / name / "enginebench.json").write_text("{}")
    (tmp_path / "other").mkdir()
    assert read_models(tmp_path, None).present == (next(iter(MODELS)),)
    absent = read_models(tmp_path / "none" / "yet", None)
    assert absent.folder == str(tmp_path)
    assert (absent.free_bytes or 0) > 0


def test_where_a_token_is_is_told_and_the_token_is_not(tmp_path: Path) -> None:
    assert token_found({"HF_TOKEN": "hf_abc"}, {"HF_TOKEN": "hf_def"}, tmp_path) == "HF_TOKEN"
    assert token_found({}, {"HF_TOKEN": "hf_def"}, tmp_path) == ".env"
    assert token_found({"HF_TOKEN": ""}, {"HF_TOKEN": ""}, tmp_path) is None
    kept = tmp_path / ".cache/huggingface/token"
    kept.parent.mkdir(parents=True)
    kept.write_text("hf_ghi")
    assert token_found({}, {}, tmp_path) == str(kept)
