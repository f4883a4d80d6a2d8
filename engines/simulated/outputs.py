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
#: a character that is no token of its own: three byte tokens, of which only the last brings text
_SPLIT_CHARACTER = "\u65e5"


@dataclass(frozen=True, slots=True)
class Output:
    """The tokens of one answer, in order; the last is EOS where the model stopped by itself."""

    ids: list[int]
    #: what each token adds to the text, escaped for the inside of a JSON string; b"" for EOS and unfinished characters
    texts: list[bytes]
    #: the model ended by itself, before the limit
    stopped: bool


class Outputs:
    """Draws answers. Text is made of whole words, so that a tokenizer counts what was generated.

    `split_every`: about one word in so many is a character split over three tokens, as byte-level vocabularies do, so
    that some events carry no text; 0: none is.
    """

    def __init__(self, tokenizer: Tokenizer, seed: int, *, split_every: int = 0) -> None:
        self._seed = seed
        draw = random.Random(seed)
        table: list[tuple[int, bytes]] = []
        split = tokenizer.encode(_SPLIT_CHARACTER)
        split_texts = [b""] * (len(split) - 1) + [_SPLIT_CHARACTER.encode()]
        while len(table) < _TABLE_SIZE:
            if split_every and draw.randrange(split_every) == 0:
                table += zip(split, split_texts, strict=True)
            else:
                token = draw.choice(tokenizer.word_ids)
                table.append((token, tokenizer.json_text(token)))
        # whole rounds of the table follow each other, so it must end with a whole character
        self._table = table
        self._starts = [k for k, (token, _) in enumerate(table) if token not in split[1:]]

    def draw(self, prompt: Sequence[int], max_tokens: int, *, ignore_eos: bool, min_tokens: int = 0) -> Output:
        """The answer to a prompt: the same each time."""
        draw = random.Random(zlib.crc32(array("i", prompt).tobytes(), self._seed & 0xFFFFFFFF))
        start = self._starts[draw.randrange(len(self._starts))]
        stops = draw.random() < EARLY_STOP_RATIO
        missing = draw.randint(1, max(1, int(max_tokens * EARLY_STOP_SPAN)))
        tokens = max(max_tokens - missing, 1) if stops and not ignore_eos else max_tokens
        stopped = min_tokens <= tokens < max_tokens
        if not stopped:
            tokens = max_tokens
        rounds = -(-tokens // len(self._table)) + 1
        drawn = (self._table * rounds)[start : start + tokens]
        ids = [token for token, _ in drawn]
        texts = [text for _, text in drawn]
        if stopped:
            ids[-1], texts[-1] = EOS_ID, b""
        return Output(ids, texts, stopped)
