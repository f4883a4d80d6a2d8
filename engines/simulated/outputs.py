"""What the simulated model says: which tokens, and where it stops by itself. A function of the seed and the prompt."""

from __future__ import annotations

import random
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from engines.simulated.tokenizer import EOS_ID, Tokenizer

#: One request in 13 ends by itself, within the last tenth of what it may generate: 6.5 tokens short of 128 on average,
#: so that 100 × 128 are 50 tokens short, as TGI's published 12,750 of 12,800 were.
EARLY_STOP_RATIO = 1 / 13
EARLY_STOP_SPAN = 0.1

_TABLE_SIZE = 4096


@dataclass(frozen=True, slots=True)
class Output:
    """The tokens of one answer, in order; the last is EOS where the model stopped by itself."""

    ids: list[int]
    #: the model ended by itself, before the limit
    stopped: bool


class Outputs:
    """Draws answers. Text is made of whole words, so that a tokenizer counts what was generated."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._seed = seed
        self._table = random.Random(seed).choices(tokenizer.word_ids, k=_TABLE_SIZE)

    def draw(self, prompt: Sequence[int], max_tokens: int, *, ignore_eos: bool, min_tokens: int = 0) -> Output:
        """The answer to a prompt: the same each time."""
        draw = random.Random(zlib.crc32(array("i", prompt).tobytes(), self._seed & 0xFFFFFFFF))
        offset, stride = draw.randrange(_TABLE_SIZE), draw.randrange(1, _TABLE_SIZE, 2)
        stops = draw.random() < EARLY_STOP_RATIO
        missing = draw.randint(1, max(1, int(max_tokens * EARLY_STOP_SPAN)))
        tokens = max(max_tokens - missing, 1) if stops and not ignore_eos else max_tokens
        stopped = min_tokens <= tokens < max_tokens
        if not stopped:
            tokens = max_tokens
        table = self._table
        ids = [table[(offset + k * stride) % _TABLE_SIZE] for k in range(tokens)]
        if stopped:
            ids[-1] = EOS_ID
        return Output(ids, stopped)
