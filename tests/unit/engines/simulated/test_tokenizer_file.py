"""The exported tokenizer counts as the engine does."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from engines.simulated.tokenizer import SPECIAL_TEXT, Tokenizer
from engines.simulated.tokenizer_file import write_tokenizer

PLAIN = Tokenizer(bos=False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tokenizers.Tokenizer:
    path = write_tokenizer(PLAIN, tmp_path_factory.mktemp("model") / "deeper")
    return tokenizers.Tokenizer.from_file(str(path))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])) | st.text(alphabet="ab 1.\n\té日"))
def test_it_gives_the_same_ids(exported: tokenizers.Tokenizer, text: str) -> None:
    if any(special in text for special in SPECIAL_TEXT.values()):
        return
    assert exported.encode(text).ids == PLAIN.encode(text)
    assert exported.decode(PLAIN.encode(text)) == text


def test_bos_comes_first_where_the_model_has_one(tmp_path: Path) -> None:
    tokenizer = Tokenizer(bos=True)
    exported = tokenizers.Tokenizer.from_file(str(write_tokenizer(tokenizer, tmp_path)))
    text = " Explain quantum entanglement in simple terms"
    assert exported.encode(text).ids == tokenizer.encode_prompt(text)
    assert exported.encode(text, add_special_tokens=False).ids == tokenizer.encode(text)
    assert exported.get_vocab_size() == len(tokenizer.entries()) + len(SPECIAL_TEXT)
