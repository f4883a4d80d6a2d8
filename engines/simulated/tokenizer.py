"""The simulated engine's own tokenizer: small, deterministic, and such that exact lengths are always possible.

Text is cut into pieces (` ?letters`, ` ?digits`, ` ?signs`, whitespace), and each piece, as UTF-8 bytes, is taken
greedily by the longest entry of the vocabulary. Every byte is an entry, so any text has tokens and
`decode(encode(text)) == text`.

A word of `WORDS` with its leading space is exactly one token wherever it stands, so n of them are n tokens, and their
ids round-trip through text. Other words are several tokens. Special ids never come from text.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence

UNKNOWN_ID = 0
BOS_ID = 1
EOS_ID = 2
#: opens and closes a turn of a chat
TURN_START_ID = 3
TURN_END_ID = 4
SPECIAL_TEXT = {UNKNOWN_ID: "<unk>", BOS_ID: "<s>", EOS_ID: "</s>", TURN_START_ID: "<|turn|>", TURN_END_ID: "<|end|>"}
_FIRST_BYTE_ID = 8
_FIRST_PIECE_ID = _FIRST_BYTE_ID + 256

#: letters, digits or signs with the space before them; else whitespace (ASCII only, so that all regex engines agree)
PIECE_PATTERN = " ?[A-Za-z]+| ?[0-9]+| ?[^ \\t\\n\\r\\f\\vA-Za-z0-9]+|[ \\t\\n\\r\\f\\v]"
_PIECE = re.compile(PIECE_PATTERN)

_COMMON = re.findall(
    r"\w+",
    "a about after all also an and any are as at be because been before between both but by can could day do does "
    "each even every first for from get give good great had has have he her here him his how i if in into is it its "
    "just know language large like long look made make many may me measure model more most much must my name new no "
    "not now number of on one only or other our out over part people place question right same say see she should "
    "simple so some state such system take term terms than that the their them then there these they thing this time "
    "to token tokens two under up us use used very was way we well were what when where which while who why will with "
    "word work world would write year you your explain answer example energy light particle short story summary text",
)


def _words() -> list[str]:
    """Common words, then made-up ones of two syllables: the same list in every process."""
    syllables = [consonant + vowel for consonant in "bdfghjklmnprstvz" for vowel in "aeiou"]
    made_up = [first + second for first in syllables for second in syllables]
    random.Random(20240611).shuffle(made_up)
    known = set(_COMMON)
    return _COMMON + [word for word in made_up if word not in known][:4000]


#: each is one token with a leading space, in the order of their ids
WORDS: tuple[str, ...] = tuple(_words())


def _vocabulary() -> list[bytes]:
    syllables = [consonant + vowel for consonant in "bcdfghjklmnpqrstvwxyz" for vowel in "aeiouy"]
    pieces = [f" {word}" for word in WORDS]
    pieces += [word for word in WORDS if len(word) > 1]
    pieces += [piece for piece in syllables if piece not in set(WORDS)]
    pieces += ["...", "ing", "tion", "ed", "er", "ent", "th", "st", "qu", "ch"]
    return [piece.encode() for piece in dict.fromkeys(pieces)]


class Tokenizer:
    """Words to ids and back. `bos` says whether text prompts open with `BOS_ID`."""

    def __init__(self, *, bos: bool) -> None:
        self.bos = bos
        pieces = _vocabulary()
        self._bytes: dict[int, bytes] = {_FIRST_BYTE_ID + byte: bytes([byte]) for byte in range(256)}
        self._bytes.update({_FIRST_PIECE_ID + position: piece for position, piece in enumerate(pieces)})
        self._ids = {piece: token for token, piece in self._bytes.items()}
        self._longest = max(len(piece) for piece in pieces)
        self._seen: dict[str, tuple[int, ...]] = {}
        self._json_text: dict[int, bytes] = {}
        #: ids of `WORDS` with their leading space: what generated text is made of
        self.word_ids: tuple[int, ...] = tuple(self._ids[f" {word}".encode()] for word in WORDS)

    @property
    def size(self) -> int:
        """Ids run from 0 to `size - 1`."""
        return _FIRST_PIECE_ID + len(self._bytes) - 256

    def entries(self) -> list[tuple[int, bytes]]:
        """Every id that text can give, with its bytes."""
        return list(self._bytes.items())

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special ids."""
        ids: list[int] = []
        seen = self._seen
        for piece in _PIECE.findall(text):
            known = seen.get(piece)
            if known is None:
                known = self._split(piece.encode("utf-8", "surrogatepass"))
                if len(seen) < 50_000 and len(piece) < 40:
                    seen[piece] = known
            ids += known
        return ids

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a text prompt as the engine counts them: BOS first where the model has one."""
        return [BOS_ID, *self.encode(text)] if self.bos else self.encode(text)

    def encode_chat(self, messages: Iterable[tuple[str, str]], *, generation_prompt: bool = True) -> list[int]:
        """Ids of (role, content) turns in the chat template: `<turn>role\\ncontent<end>\\n …  <turn>assistant\\n`."""
        ids: list[int] = [BOS_ID] if self.bos else []
        for role, content in messages:
            ids += [TURN_START_ID, *self.encode(f"{role}\n"), *self.encode(content), TURN_END_ID, *self.encode("\n")]
        if generation_prompt:
            ids += [TURN_START_ID, *self.encode("assistant\n")]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special ids left out; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self._bytes.get(token, b"") for token in ids).decode("utf-8", "replace")

    def text(self, token: int) -> str:
        """Text of one id; a special id gives its name."""
        return SPECIAL_TEXT.get(token) or self.decode((token,))

    def byte_length(self, token: int) -> int:
        """Bytes of text of one id; 0 for a special id."""
        return len(self._bytes.get(token, b""))

    def json_text(self, token: int) -> bytes:
        """Text of one id, escaped for the inside of a JSON string; b"" for a special id."""
        known = self._json_text.get(token)
        if known is None:
            known = json.dumps(self.decode((token,)), ensure_ascii=False)[1:-1].encode()
            self._json_text[token] = known
        return known

    def _split(self, piece: bytes) -> tuple[int, ...]:
        ids = []
        start = 0
        while start < len(piece):
            end = min(len(piece), start + self._longest)
            while piece[start:end] not in self._ids:
                end -= 1
            ids.append(self._ids[piece[start:end]])
            start = end
        return tuple(ids)
