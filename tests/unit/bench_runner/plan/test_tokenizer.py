from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from bench_runner.errors import TokenizerError
from bench_runner.plan.tokenizer import (
    ApproximateTokenizer,
    LocalTokenizer,
    RemoteTokenizer,
    Tokenizer,
    check_match,
    open_tokenizer,
)
from engines.errors import TargetUnavailable

Folder = Callable[[str], Path]
TEXT = "Explain quantum entanglement in simple terms"


def configure(folder: Path, **settings: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def test_counts_as_the_library_does(model_folder: Folder) -> None:
    for family in ("byte-level", "byte-level-bos", "unigram", "wordpiece", "sentencepiece"):
        folder = model_folder(family)
        tokenizer = open_tokenizer(folder)
        ids = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT).ids
        assert tokenizer.encode(TEXT) == tuple(ids)
        assert tokenizer.count(TEXT) == len(ids)
        assert tokenizer.exact


def test_file_and_folder_are_the_same(model_folder: Folder) -> None:
    folder = model_folder("byte-level-bos")
    by_folder, by_file = open_tokenizer(folder), open_tokenizer(str(folder / "tokenizer.json"))
    assert by_folder.encode(TEXT) == by_file.encode(TEXT)
    assert by_folder.name == by_file.name
    assert by_folder.name.startswith(f"{folder.name}/tokenizer.json sha256:")


def test_knows_its_ids(open_family: Callable[[str], LocalTokenizer]) -> None:
    with_bos, without = open_family("byte-level-bos"), open_family("byte-level")
    assert with_bos.bos
    assert not without.bos
    assert with_bos.special_ids == {0, 1, 2, 3}
    assert with_bos.vocab_size is not None
    assert 1500 < with_bos.vocab_size <= 2048


def test_saved_truncation_and_padding_are_not_the_engine_s(model_folder: Folder) -> None:
    folder = model_folder("byte-level")
    whole = open_tokenizer(folder).count(TEXT * 10)
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.enable_truncation(5)
    backend.enable_padding(length=400)
    backend.save(str(folder / "tokenizer.json"))
    assert open_tokenizer(folder).count(TEXT * 10) == whole > 100


@pytest.mark.parametrize("token", ["<s>", {"content": "<s>", "special": True}])
def test_configuration_adds_bos(model_folder: Folder, token: object) -> None:
    folder = model_folder("byte-level")
    configure(folder, add_bos_token=True, bos_token=token)
    tokenizer = open_tokenizer(folder)
    assert tokenizer.encode(TEXT)[0] == 1
    assert tokenizer.bos


def test_configuration_takes_bos_away(model_folder: Folder) -> None:
    folder = model_folder("byte-level-bos")
    configure(folder, add_bos_token=False, bos_token="<s>")
    assert not open_tokenizer(folder).bos


def test_configuration_does_not_add_bos_twice(model_folder: Folder) -> None:
    folder = model_folder("byte-level-bos")
    configure(folder, add_bos_token=True, bos_token="<s>")
    assert open_tokenizer(folder).encode("")[:2] == (1,)


@pytest.mark.parametrize("settings", [{"add_bos_token": False, "bos_token": None}, {"bos_token": "<s>"}, {}])
def test_configuration_that_says_nothing_changes_nothing(model_folder: Folder, settings: dict[str, object]) -> None:
    for family, bos in (("byte-level", False), ("byte-level-bos", True)):
        folder = model_folder(family)
        configure(folder, **settings)
        assert open_tokenizer(folder).bos is bos


def test_an_engine_that_adds_nothing(model_folder: Folder) -> None:
    folder = model_folder("byte-level-bos")
    assert open_tokenizer(folder, adds_bos=False).count(TEXT) == open_tokenizer(folder).count(TEXT) - 1
    assert not open_tokenizer(folder, adds_bos=False).bos


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="no tokenizer file at") as caught:
        open_tokenizer(tmp_path / "nothing.json")
    assert caught.value.field == "target.tokenizer"
    with pytest.raises(TokenizerError, match=r"cannot read .*name too long|no tokenizer file at"):
        open_tokenizer(tmp_path / ("n" * 300))


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json in .*give the model's tokenizer\.json"):
        open_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff\xfe\x00", b'{"version": "1.0", "model": {"type": "Nothing"}}', b"[1, 2", b"<html>"]
)
def test_a_file_that_is_no_tokenizer(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"is not a tokenizer\.json") as caught:
        open_tokenizer(tmp_path)
    assert caught.value.field == "target.tokenizer"


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_configuration_that_is_none(model_folder: Folder, content: bytes) -> None:
    folder = model_folder("byte-level")
    (folder / "tokenizer_config.json").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json"):
        open_tokenizer(folder)


def test_the_engine_s_own_bos_is_found_out(open_family: Callable[[str], LocalTokenizer]) -> None:
    for family in ("byte-level", "byte-level-bos", "sentencepiece"):
        local = open_family(family)
        remote = RemoteTokenizer(local.encode)
        assert remote.bos is local.bos
        assert remote.count(TEXT) == local.count(TEXT)
        assert remote.special_ids == (frozenset({1}) if local.bos else frozenset())
        assert remote.exact


@pytest.mark.parametrize(
    "error",
    [ConnectionRefusedError("refused"), ValueError("not JSON"), TimeoutError("slow")],
)
def test_an_engine_that_does_not_answer(error: Exception) -> None:
    def tokenize(text: str) -> tuple[int, ...]:
        raise error

    with pytest.raises(TokenizerError, match=f"did not count a prompt: {error}.*give the model's tokenizer.json"):
        RemoteTokenizer(tokenize)


def test_a_target_that_went_away_is_no_fault_of_its_tokenizer() -> None:
    def tokenize(text: str) -> tuple[int, ...]:
        raise TargetUnavailable("gone")

    with pytest.raises(TargetUnavailable, match="gone"):
        RemoteTokenizer(tokenize)


@pytest.mark.parametrize("answer", [None, ()])
def test_an_engine_that_gives_no_tokens(answer: tuple[int, ...] | None) -> None:
    with pytest.raises(TokenizerError, match="gave no tokens"):
        RemoteTokenizer(lambda text: answer)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("water", 1),
        ("two words", 2),
        ("internationally", 2),
        ("1234", 2),
        ("a, b.", 4),
        ("  \n", 0),
        ("水", 1),
    ],
)
def test_estimates(text: str, tokens: int) -> None:
    assert ApproximateTokenizer().count(text) == tokens


def test_estimates_have_no_ids() -> None:
    with pytest.raises(TokenizerError, match="token ids need a tokenizer") as caught:
        ApproximateTokenizer().encode("water")
    assert caught.value.field == "target.tokenizer"
    assert not ApproximateTokenizer().exact


def test_a_matching_tokenizer_passes(tokenizer: LocalTokenizer) -> None:
    check_match(tokenizer, TEXT, tokenizer.count(TEXT))
    check_match(tokenizer, TEXT, tokenizer.count(TEXT) + 13, overhead=13)


def test_a_tokenizer_that_does_not_match(tokenizer: LocalTokenizer) -> None:
    counted = tokenizer.count(TEXT)
    with pytest.raises(TokenizerError, match=f"does not match the target.*{counted} tokens.*counted 3;") as caught:
        check_match(tokenizer, TEXT, 3)
    assert caught.value.field == "target.tokenizer"
    with pytest.raises(TokenizerError, match="mostly a BOS token"):
        check_match(tokenizer, TEXT, counted + 1)


def test_estimates_are_held_against_nothing() -> None:
    check_match(ApproximateTokenizer(), TEXT, 1)


def test_all_are_tokenizers(tokenizer: LocalTokenizer) -> None:
    every: list[Tokenizer] = [tokenizer, RemoteTokenizer(tokenizer.encode), ApproximateTokenizer()]
    assert len({one.name for one in every}) == 3
