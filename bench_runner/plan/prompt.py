"""Synthetic prompts: seeded text of exact token length, no two alike from their first tokens on.

Words are drawn, never ids: a text that was counted as text round-trips by construction, and holds no special id. How
many words make the wanted length is proven by counting the finished text; with words of one token each the first
count is nearly always right.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from string import ascii_lowercase
from weakref import WeakKeyDictionary

from bench_runner.errors import SpecError, TokenizerError
from bench_runner.plan.tokenizer import Tokenizer
from bench_runner.plan.words import WORDS

#: Below this many words of one token each, all words are drawn from and lengths are found by trying.
_ENOUGH_WORDS = 48
#: Words that tell where other words begin and end, where the vocabulary has them as one token.
_SEPARATORS = ("the", "and", "of", "in", "to", "it", "is", "a")
#: Counts spent on one text before its length is called impossible.
_MAX_COUNTS = 24
#: Prompts differ within this many tokens after BOS: far inside the first block that a prefix cache keeps.
_HEAD_TOKENS = 4
#: Draws of one prompt before one like another is taken: a single token leaves no more texts than there are words.
_MAX_REDRAWS = 8
#: Up to this length a first word of two tokens may be one too many, so other first words are tried.
_FEW_TOKENS = 8
_MAX_STARTS = 64
#: Mostly one token each, whatever stands before them.
_MARKS = (" a", ".", "!", "?", ",", ";", ":", " x", "x", "q", "z", "7")


class LengthNotPossible(SpecError):
    """No text has the wanted number of tokens under this tokenizer."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Text or token ids with a known token count."""

    content: str | tuple[int, ...]
    #: as the engine counts them, template and BOS included
    tokens: int
    #: proven, not estimated
    exact: bool
    #: `None` for token ids
    characters: int | None


_pools: WeakKeyDictionary[Tokenizer, tuple[str, ...]] = WeakKeyDictionary()


def find_words(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The words that are one token each inside a text; all words where there are too few of those.

    Two or three encodings, once for a tokenizer: the words are set between a known separator, and the ids between two
    separators are the word's own.
    """
    if tokenizer not in _pools:
        _pools[tokenizer] = _find_words(tokenizer) if tokenizer.exact else WORDS
    return _pools[tokenizer]


def _find_words(tokenizer: Tokenizer) -> tuple[str, ...]:
    for separator in _SEPARATORS:
        ids = tokenizer.encode(" ".join([separator] * 6))
        mark = ids[-2]
        if ids[-5:-1] != (mark,) * 4 or mark in tokenizer.special_ids:
            continue
        words = [word for word in WORDS if word != separator]
        text = f"{separator} {separator} " + f" {separator} ".join(words) + f" {separator}"
        found = _between(tokenizer.encode(text), mark)
        # A segment too many or too few: some word holds the separator's id, and nothing can be told apart.
        if len(found) != len(words):
            continue
        of_id = {
            segment[0]: word
            for word, segment in zip(reversed(words), reversed(found), strict=True)
            if len(segment) == 1 and segment[0] not in tokenizer.special_ids
        }
        single = frozenset(of_id.values())
        if len(single) >= _ENOUGH_WORDS:
            return tuple(word for word in words if word in single)
    if not tokenizer.special_ids.isdisjoint(tokenizer.encode(" ".join(WORDS))[int(tokenizer.bos) :]):
        raise TokenizerError(
            f"{tokenizer.name} has no tokens for plain English words, so no text can be drawn for it; "
            "give the model's own tokenizer.json, or prompts of your own as a dataset",
            field="target.tokenizer",
        )
    return WORDS


def _between(ids: tuple[int, ...], mark: int) -> list[tuple[int, ...]]:
    """The runs of ids between marks, from the last of the marks that the text opens with."""
    marks = [i for i, token in enumerate(ids) if token == mark]
    runs = [ids[a + 1 : b] for a, b in pairwise(marks)]
    return runs[1:] if runs and not runs[0] else runs


def write_prompts(
    lengths: Sequence[int],
    rng: random.Random,
    tokenizer: Tokenizer,
    *,
    overhead: int = 0,
    as_ids: bool = False,
) -> list[Prompt]:
    """One prompt for each length, no two sharing their first words where the lengths leave a choice.

    Args:
        lengths: tokens of each prompt as the engine counts them, `overhead` included.
        rng: the seeded stream of this batch.
        tokenizer: proves the lengths; where it only estimates, the prompts say so.
        overhead: tokens a chat template adds to the tokenizer's count of a text.
        as_ids: give token ids, the very ones the text would have.

    Raises:
        LengthNotPossible: no text has that length.
        TokenizerError: the tokenizer cannot be asked, or gives no ids.
    """
    words = find_words(tokenizer)
    deck: list[str] = []
    heads: set[tuple[int, ...] | str] = set()
    prompts = []
    for tokens in lengths:
        for _ in range(_MAX_REDRAWS):
            # First words are dealt like cards, so that no two prompts start alike until all words had their turn.
            deck = deck or rng.sample(words, len(words))
            seed = random.Random(rng.getrandbits(64))
            text, ids = _write(tokens - overhead, deck.pop(), words, seed, tokenizer, overhead)
            head = _head(text, ids, tokenizer)
            if head not in heads:
                break
        heads.add(head)
        content: str | tuple[int, ...] = text
        if as_ids:
            content = tokenizer.encode(text) if ids is None else ids
        prompts.append(Prompt(content, tokens, tokenizer.exact, None if as_ids else len(text)))
    return prompts


def _head(text: str, ids: tuple[int, ...] | None, tokenizer: Tokenizer) -> tuple[int, ...] | str:
    """What must differ between two prompts: the first tokens of the text, or its first words where ids are unknown."""
    if ids is None:
        return " ".join(text.split(" ", _HEAD_TOKENS)[:_HEAD_TOKENS])
    return ids[int(tokenizer.bos) :][:_HEAD_TOKENS]


def _write(
    tokens: int, first: str, words: Sequence[str], rng: random.Random, tokenizer: Tokenizer, overhead: int
) -> tuple[str, tuple[int, ...] | None]:
    """A text of exactly `tokens` tokens that starts with `first`, or with another word where that one is too long.

    Its ids come with it; `None` where they are only estimated.
    """
    if tokens > int(tokenizer.bos):
        for start in (first, *rng.sample(words, min(_MAX_STARTS, len(words))), *ascii_lowercase):
            written = _grow(tokens, start, words, rng, tokenizer)
            if written is not None:
                return written
            if tokens > _FEW_TOKENS:
                break
    taken = overhead + int(tokenizer.bos)
    raise LengthNotPossible(
        f"no prompt of {tokens + overhead} input tokens can be written for {tokenizer.name}"
        + (f" (BOS and the chat template take {taken} of them)" if taken else "")
        + f"; ask for {max(taken, tokens + overhead) + 1} or more",
        field="workload.prompts.input_tokens",
    )


def _measure(text: str, tokenizer: Tokenizer) -> tuple[int, tuple[int, ...] | None]:
    """Count and ids of a text in one go; no ids where the count is an estimate."""
    if not tokenizer.exact:
        return tokenizer.count(text), None
    ids = tokenizer.encode(text)
    return len(ids), ids


def _grow(
    tokens: int, start: str, words: Sequence[str], rng: random.Random, tokenizer: Tokenizer
) -> tuple[str, tuple[int, ...] | None] | None:
    """Add and drop words until the count is right, and single characters where words are too coarse."""
    drawn = [start]
    counted: dict[int, int] = {}
    size = max(1, tokens - int(tokenizer.bos))
    while size not in counted and len(counted) < _MAX_COUNTS:
        drawn.extend(rng.choices(words, k=max(0, size - len(drawn))))
        text = " ".join(drawn[:size])
        counted[size], ids = _measure(text, tokenizer)
        if counted[size] == tokens:
            return text, ids
        missing = tokens - counted[size]
        step = round(missing * size / counted[size]) or (1 if missing > 0 else -1)
        size = max(1, size + step)
    below = [size for size, count in counted.items() if count < tokens]
    return _fill(tokens, " ".join(drawn[: max(below)]), tokenizer) if below else None


def _fill(tokens: int, text: str, tokenizer: Tokenizer) -> tuple[str, tuple[int, ...] | None] | None:
    """Append marks that cost a token each until the count is right; `None` where none fits."""
    count, ids = _measure(text, tokenizer)
    for _ in range(_MAX_COUNTS):
        for mark in _MARKS:
            longer, longer_ids = _measure(text + mark, tokenizer)
            if count < longer <= tokens:
                text, count, ids = text + mark, longer, longer_ids
                break
        else:
            return None
        if count == tokens:
            return text, ids
    return None
