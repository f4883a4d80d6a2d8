from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from bench_runner.errors import SpecError, TokenizerError
from bench_runner.plan.prompt import LengthNotPossible, find_words, write_prompts
from bench_runner.plan.tokenizer import ApproximateTokenizer, LocalTokenizer, RemoteTokenizer
from bench_runner.plan.words import WORDS

BLOCK = 16
Open = Callable[[str], LocalTokenizer]


class Counting:
    """An engine's /tokenize that counts how often it is asked."""

    def __init__(self, tokenizer: LocalTokenizer) -> None:
        self.calls = 0
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> tuple[int, ...]:
        self.calls += 1
        return self._tokenizer.encode(text)


def test_words_are_distinct_and_plain() -> None:
    assert len(set(WORDS)) == len(WORDS) > 1000
    assert all(word.isascii() and word.isalpha() and word.islower() for word in WORDS)


def test_found_words_are_one_token_inside_a_text(open_family: Open) -> None:
    for family in ("byte-level", "sentencepiece", "unigram", "wordpiece"):
        tokenizer = open_family(family)
        words = find_words(tokenizer)
        assert 48 <= len(words) <= len(WORDS)
        alone = tokenizer.count("the the")
        assert {tokenizer.count(f"the {word} the") - alone for word in words} == {1}, family


def test_words_of_one_token_are_told_from_the_others(tokenizer: LocalTokenizer) -> None:
    found = set(find_words(tokenizer))
    alone = tokenizer.count("the the")
    assert {word for word in WORDS if tokenizer.count(f"the {word} the") - alone == 1} - {"the"} == found
    assert 0 < len(found) < len(WORDS) - 1


def test_every_family_gives_exact_lengths(each_family: LocalTokenizer) -> None:
    lengths = [*range(4, 40), 128, 267, 500]
    prompts = write_prompts(lengths, random.Random(1), each_family)
    assert [each_family.count(str(p.content)) for p in prompts] == lengths
    assert all(p.exact and p.characters == len(p.content) for p in prompts)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 400), min_size=1, max_size=6),
    seed=st.integers(0, 2**64),
    overhead=st.integers(0, 1),
    family=st.sampled_from(["byte-level", "byte-level-bos", "sentencepiece", "few-merges"]),
)
def test_any_length_is_exact(open_family: Open, lengths: list[int], seed: int, overhead: int, family: str) -> None:
    tokenizer = open_family(family)
    lengths = [n + overhead + tokenizer.bos for n in lengths]
    prompts = write_prompts(lengths, random.Random(seed), tokenizer, overhead=overhead)
    assert [tokenizer.count(str(p.content)) + overhead for p in prompts] == lengths
    assert [p.tokens for p in prompts] == lengths


def test_length_one(open_family: Open) -> None:
    for family in ("byte-level", "few-merges"):
        tokenizer = open_family(family)
        prompts = write_prompts([1] * 20, random.Random(3), tokenizer)
        assert {tokenizer.count(str(p.content)) for p in prompts} == {1}
        assert len({p.content for p in prompts}) > 10


def test_a_very_long_prompt_takes_few_counts(open_family: Open) -> None:
    ask = Counting(open_family("byte-level-bos"))
    tokenizer = RemoteTokenizer(ask)
    find_words(tokenizer)
    ask.calls = 0
    (prompt,) = write_prompts([129_024], random.Random(5), tokenizer)
    assert ask.calls <= 3
    assert tokenizer.count(str(prompt.content)) == 129_024


def test_few_requests_to_an_engine(open_family: Open) -> None:
    ask = Counting(open_family("byte-level"))
    tokenizer = RemoteTokenizer(ask)
    find_words(tokenizer)
    assert ask.calls <= 10
    ask.calls = 0
    write_prompts([128] * 100, random.Random(5), tokenizer)
    assert 100 <= ask.calls <= 300


def test_local_and_remote_counts_give_the_same_text(open_family: Open) -> None:
    local = open_family("sentencepiece")
    remote = RemoteTokenizer(local.encode)
    lengths = [128] * 20
    assert write_prompts(lengths, random.Random(9), local) == write_prompts(lengths, random.Random(9), remote)


def test_prompts_differ_within_their_first_tokens(each_family: LocalTokenizer) -> None:
    prompts = write_prompts([128] * 100, random.Random(11), each_family)
    start = int(each_family.bos)
    heads = {each_family.encode(str(p.content))[start : start + 4] for p in prompts}
    assert len(heads) == 100


def test_first_tokens_are_all_different_while_words_last(open_family: Open) -> None:
    tokenizer = open_family("sentencepiece")
    prompts = write_prompts([64] * 200, random.Random(12), tokenizer)
    assert len({tokenizer.encode(str(p.content))[1] for p in prompts}) == 200


def test_batches_share_no_block(each_family: LocalTokenizer) -> None:
    blocks = [
        each_family.encode(str(p.content))[:BLOCK]
        for batch in range(5)
        for p in write_prompts([32] * 60, random.Random(f"batch {batch}"), each_family)
    ]
    assert len(set(blocks)) == len(blocks) == 300


def test_ids_are_those_of_the_text_and_round_trip(open_family: Open) -> None:
    for family in ("byte-level", "byte-level-bos"):
        tokenizer = open_family(family)
        texts = write_prompts([50] * 10, random.Random(2), tokenizer)
        ids = write_prompts([50] * 10, random.Random(2), tokenizer, as_ids=True)
        assert [p.content for p in ids] == [tokenizer.encode(str(p.content)) for p in texts]
        assert all(len(p.content) == p.tokens == 50 and p.characters is None for p in ids)


def test_no_special_id_but_the_tokenizer_s_own(open_family: Open) -> None:
    tokenizer = open_family("byte-level-bos")
    for prompt in write_prompts([100] * 20, random.Random(4), tokenizer, as_ids=True):
        assert isinstance(prompt.content, tuple)
        assert prompt.content[0] in tokenizer.special_ids
        assert tokenizer.special_ids.isdisjoint(prompt.content[1:])


def test_bos_alone_leaves_no_text(open_family: Open) -> None:
    with pytest.raises(LengthNotPossible, match=r"no prompt of 1 input tokens.*BOS") as caught:
        write_prompts([1], random.Random(1), open_family("byte-level-bos"))
    assert caught.value.field == "workload.prompts.input_tokens"


def test_a_template_may_leave_no_text(tokenizer: LocalTokenizer) -> None:
    with pytest.raises(SpecError, match="chat template"):
        write_prompts([12], random.Random(1), tokenizer, overhead=12)


def test_a_length_below_the_templates_own_names_the_least_that_is_possible(open_family: Open) -> None:
    tokenizer = open_family("sentencepiece")
    with pytest.raises(LengthNotPossible) as caught:
        write_prompts([3], random.Random(1), tokenizer, overhead=13)
    taken = 13 + int(tokenizer.bos)
    assert f"no prompt of 3 input tokens can be written for {tokenizer.name}" in str(caught.value)
    assert f"(BOS and the chat template take {taken} of them); ask for {taken + 1} or more" in str(caught.value)
    assert write_prompts([taken + 1], random.Random(1), tokenizer, overhead=13)[0].tokens == taken + 1


def test_estimates_say_so(open_family: Open) -> None:
    prompts = write_prompts([1, 128, 1000], random.Random(1), ApproximateTokenizer())
    assert [p.exact for p in prompts] == [False] * 3
    assert [ApproximateTokenizer().count(str(p.content)) for p in prompts] == [1, 128, 1000]
    with pytest.raises(TokenizerError, match="token ids need a tokenizer"):
        write_prompts([5], random.Random(1), ApproximateTokenizer(), as_ids=True)


def test_estimated_prompts_differ_from_the_first_words_on() -> None:
    prompts = write_prompts([16] * 300, random.Random(1), ApproximateTokenizer())
    assert len({tuple(str(p.content).split()[:4]) for p in prompts}) == 300


def test_a_vocabulary_without_words_is_refused() -> None:
    backend = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "eins": 1, "zwei": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(["[UNK]"])
    with pytest.raises(TokenizerError, match="no tokens for plain English words"):
        write_prompts([5], random.Random(1), LocalTokenizer(backend, "words", ()))


def test_words_that_share_an_id_count_once() -> None:
    vocab = {"[UNK]": 0, "the": 1} | {word: 2 + i // 2 for i, word in enumerate(WORDS) if word != "the"}
    backend = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = LocalTokenizer(backend, "pairs", ())
    words = find_words(tokenizer)
    assert len({tokenizer.encode(word) for word in words}) == len(words) < len(WORDS) * 0.6
