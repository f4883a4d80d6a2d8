"""Small real tokenizers of the families that models use, trained on the spot."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from bench_runner.plan.tokenizer import LocalTokenizer, open_tokenizer
from bench_runner.plan.words import WORDS

SPECIALS = ["<unk>", "<s>", "</s>", "<|im_start|>"]


def _corpus() -> list[str]:
    rng = random.Random(7)
    return [" ".join(rng.choices(WORDS, k=40)) + ". It's 3 o'clock!" for _ in range(400)]


def _with_bos(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return backend


def _byte_level(vocab: int) -> tokenizers.Tokenizer:
    """As Qwen and Llama 3: bytes, words with their leading space."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        _corpus(),
        trainers.BpeTrainer(vocab_size=vocab, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False),
    )
    return backend


def _sentencepiece(vocab: int) -> tokenizers.Tokenizer:
    """As Mistral and Llama 2: a mark for each space, one in front, merges over the whole text."""
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    backend.train_from_iterator(
        _corpus(), trainers.BpeTrainer(vocab_size=vocab, special_tokens=SPECIALS, show_progress=False)
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence([])
    return backend


def _unigram(vocab: int) -> tokenizers.Tokenizer:
    """As T5: most likely pieces, and an end mark on every text."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.train_from_iterator(
        _corpus(),
        trainers.UnigramTrainer(vocab_size=vocab, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False),
    )
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", backend.token_to_id("</s>"))]
    )
    return backend


def _wordpiece(vocab: int) -> tokenizers.Tokenizer:
    """As BERT: lower case, whole words first, marks on both sides."""
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.train_from_iterator(
        _corpus(), trainers.WordPieceTrainer(vocab_size=vocab, special_tokens=SPECIALS, show_progress=False)
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(mark, backend.token_to_id(mark)) for mark in ("<s>", "</s>")]
    )
    return backend


@cache
def train(family: str) -> tokenizers.Tokenizer:
    """The backend of one family."""
    match family:
        case "byte-level":
            return _byte_level(2048)
        case "byte-level-bos":
            return _with_bos(_byte_level(2048))
        case "bytes-only":
            return _with_bos(_byte_level(262))
        case "few-merges":
            return _byte_level(420)
        case "sentencepiece":
            return _with_bos(_sentencepiece(1600))
        case "unigram":
            return _unigram(1400)
        case "wordpiece":
            return _wordpiece(2000)
        case _:
            raise ValueError(family)


FAMILIES = ("byte-level", "byte-level-bos", "bytes-only", "few-merges", "sentencepiece", "unigram", "wordpiece")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with the `tokenizer.json` of a family; a new one for each call."""

    def save(family: str) -> Path:
        folder = tmp_path_factory.mktemp(family)
        train(family).save(str(folder / "tokenizer.json"))
        return folder

    return save


@pytest.fixture(scope="session")
def open_family(model_folder: Callable[[str], Path]) -> Callable[[str], LocalTokenizer]:
    """The tokenizer of a family, one for the whole session."""
    return cache(lambda family: open_tokenizer(model_folder(family)))


@pytest.fixture(scope="session")
def tokenizer(open_family: Callable[[str], LocalTokenizer]) -> LocalTokenizer:
    """Byte-level without BOS, as Qwen's."""
    return open_family("byte-level")


@pytest.fixture(scope="session", params=FAMILIES)
def each_family(request: pytest.FixtureRequest, open_family: Callable[[str], LocalTokenizer]) -> LocalTokenizer:
    """Every family in turn."""
    return open_family(request.param)
