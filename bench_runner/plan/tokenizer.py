"""How many tokens a text is: counted by the model's own tokenizer file, by the engine itself, or estimated and said so.

A count here is what the engine counts for a text *completion* prompt, with the BOS it puts in front. What a chat
template adds on top is the caller's `overhead`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench_runner.errors import TokenizerError

if TYPE_CHECKING:
    import tokenizers

_FIELD = "target.tokenizer"
_MEND = (
    "give the model's tokenizer.json or the folder that holds it, or leave it out to count with the engine's /tokenize"
)
#: Texts with nothing in common: ids that all of them start with are put there by the tokenizer, not by the text.
_UNRELATED = ("water", "the", "Q", "7")


class Tokenizer(Protocol):
    """What planning asks of a tokenizer."""

    @property
    def name(self) -> str:
        """Which tokenizer this is, for the run's record."""

    @property
    def exact(self) -> bool:
        """Counts are proven, not estimated."""

    @property
    def bos(self) -> bool:
        """Ids are put in front of every text, and counted."""

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids with a meaning to the engine, such as BOS, EOS and template marks, as far as they are known."""

    @property
    def vocab_size(self) -> int | None:
        """Number of ids; `None`: not known."""

    def count(self, text: str) -> int:
        """Tokens of `text` as a completion prompt, as the engine counts them."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of `text` as a completion prompt, BOS included. Raises TokenizerError where only estimates exist."""


class LocalTokenizer:
    """A model's `tokenizer.json`, read with the library the engines themselves use."""

    exact = True

    def __init__(
        self, backend: tokenizers.Tokenizer, name: str, prefix: tuple[int, ...], suffix: tuple[int, ...] = ()
    ) -> None:
        self._backend = backend
        self.name = name
        self._prefix = prefix
        self._suffix = suffix
        self.bos = bool(prefix)
        self.vocab_size: int | None = backend.get_vocab_size(with_added_tokens=True)
        added = backend.get_added_tokens_decoder()
        self.special_ids = frozenset(i for i, token in added.items() if token.special) | {*prefix, *suffix}

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of `text`, BOS and whatever else the post-processor adds included."""
        try:
            ids = self._backend.encode(text, add_special_tokens=False).ids
        except Exception as error:  # the library raises nothing narrower
            raise TokenizerError(f"{self.name} could not encode a text: {error}; {_MEND}", field=_FIELD) from error
        return (*self._prefix, *ids, *self._suffix)

    def count(self, text: str) -> int:
        """Tokens of `text`, BOS included."""
        return len(self.encode(text))


class RemoteTokenizer:
    """The engine's own `/tokenize`. Each count is a request, so callers count seldom."""

    exact = True
    vocab_size: int | None = None

    def __init__(
        self,
        tokenize: Callable[[str], tuple[int, ...] | None],
        *,
        name: str = "the engine's /tokenize",
        special_ids: frozenset[int] = frozenset(),
    ) -> None:
        """Asks the engine at once, to learn what it puts in front of a text.

        Args:
            tokenize: ids of a text as the engine sees it as a completion prompt, `None` where it gives none. May
                raise EngineError, OSError or ValueError.
            name: for the run's record.
            special_ids: ids known to be special; those in front of every text are found out.
        """
        self._tokenize = tokenize
        self.name = name
        prefix = _common_prefix([self.encode(text) for text in _UNRELATED])
        self.bos = bool(prefix)
        self.special_ids = special_ids | frozenset(prefix)

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of `text` as the engine gives them."""
        try:
            ids = self._tokenize(text)
        except (OSError, ValueError) as error:
            raise TokenizerError(
                f"{self.name} did not count a prompt: {error}; give the model's tokenizer.json to count locally",
                field=_FIELD,
            ) from error
        if ids is None or (text and not ids):
            raise TokenizerError(
                f"{self.name} gave no tokens for a text; give the model's tokenizer.json to count locally", field=_FIELD
            )
        return ids

    def count(self, text: str) -> int:
        """Tokens of `text` as the engine counts them."""
        return len(self.encode(text))


class ApproximateTokenizer:
    """No tokenizer at hand: an estimate, marked so.

    One token for each run of up to 8 Latin letters, for each run of up to 3 digits, and for every other character that
    is not white space. English in vocabularies of 32,000 and more comes within some 10 %; code and other languages
    do not. BOS is not counted.
    """

    name = "approximate (no tokenizer at hand)"
    exact = False
    bos = False
    special_ids: frozenset[int] = frozenset()
    vocab_size: int | None = None

    _PIECE = re.compile(r"[A-Za-z]{1,8}|[0-9]{1,3}|[^A-Za-z0-9\s]")

    def count(self, text: str) -> int:
        """Estimated tokens of `text`."""
        return sum(1 for _ in self._PIECE.finditer(text))

    def encode(self, text: str) -> tuple[int, ...]:
        """There are no ids: always a TokenizerError."""
        raise TokenizerError(
            "token ids need a tokenizer, and neither a tokenizer file nor the engine's /tokenize is at hand; "
            "give the model's tokenizer.json, or ask for prompts as text",
            field=_FIELD,
        )


def open_tokenizer(path: str | Path, *, adds_bos: bool = True) -> LocalTokenizer:
    """The tokenizer of a `tokenizer.json` file, or of the model folder that holds one.

    BOS follows the post-processor, unless the `tokenizer_config.json` beside it says `add_bos_token` in so many words,
    as the engines do.

    Args:
        path: file or folder.
        adds_bos: the engine adds special tokens to a text completion at all.

    Raises:
        TokenizerError: unreadable or malformed.
    """
    import tokenizers  # here, for few runs have a file

    try:
        file = _find_file(Path(path))
        raw = file.read_bytes()
    except OSError as error:
        raise TokenizerError(f"cannot read {path}: {error.strerror or error}; {_MEND}", field=_FIELD) from error
    try:
        backend = tokenizers.Tokenizer.from_str(raw.decode("utf-8"))
        # Both are settings of whoever saved the file; an engine never cuts or pads a prompt by them.
        backend.no_truncation()
        backend.no_padding()
        bare = backend.encode("water", add_special_tokens=False).ids
        full = backend.encode("water", add_special_tokens=True).ids
    except Exception as error:  # the library raises nothing narrower
        raise TokenizerError(f"{file} is not a tokenizer.json: {error}; {_MEND}", field=_FIELD) from error
    start = next((i for i in range(len(full) - len(bare) + 1) if full[i : i + len(bare)] == bare), 0)
    prefix, suffix = tuple(full[:start]), tuple(full[start + len(bare) :])
    if adds_bos:
        prefix = _configured_prefix(prefix, file.with_name("tokenizer_config.json"), backend)
    else:
        prefix, suffix = (), ()
    name = f"{file.parent.name}/{file.name} sha256:{hashlib.sha256(raw).hexdigest()[:16]}".lstrip("/")
    return LocalTokenizer(backend, name, prefix, suffix)


def check_match(tokenizer: Tokenizer, text: str, engine_tokens: int, *, overhead: int = 0) -> None:
    """Hold a tokenizer's count of a text against what the engine says it counted.

    Args:
        tokenizer: estimates are never held against anything.
        text: what was sent.
        engine_tokens: the engine's count, from its usage or /tokenize.
        overhead: tokens a chat template adds to the tokenizer's count.

    Raises:
        TokenizerError: the counts differ.
    """
    if not tokenizer.exact:
        return
    counted = tokenizer.count(text) + overhead
    if counted == engine_tokens:
        return
    only_bos = abs(counted - engine_tokens) == 1
    hint = " (one more or less on every prompt is mostly a BOS token)" if only_bos else ""
    raise TokenizerError(
        f"a tokenizer that does not match the target: {tokenizer.name} counts {counted} tokens where the engine "
        f"counted {engine_tokens}{hint}; {_MEND}",
        field=_FIELD,
    )


def _find_file(path: Path) -> Path:
    if path.is_dir():
        file = path / "tokenizer.json"
        if not file.is_file():
            raise TokenizerError(f"no tokenizer.json in {path}; {_MEND}", field=_FIELD)
        return file
    if not path.is_file():
        raise TokenizerError(f"no tokenizer file at {path}; {_MEND}", field=_FIELD)
    return path


def _configured_prefix(prefix: tuple[int, ...], config: Path, backend: tokenizers.Tokenizer) -> tuple[int, ...]:
    """`prefix` as `tokenizer_config.json` would have it; unchanged where it says nothing or is not there."""
    if not config.is_file():
        return prefix
    try:
        settings: Any = json.loads(config.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizerError(f"{config} is not readable JSON: {error}; {_MEND}", field=_FIELD) from error
    if not isinstance(settings, dict):
        raise TokenizerError(f"{config} is not a JSON object; {_MEND}", field=_FIELD)
    wanted, token = settings.get("add_bos_token"), settings.get("bos_token")
    text = token.get("content") if isinstance(token, dict) else token
    bos = backend.token_to_id(text) if isinstance(text, str) else None
    if bos is None or not isinstance(wanted, bool):
        return prefix
    without = prefix[1:] if prefix[:1] == (bos,) else prefix
    return (bos, *without) if wanted else without


def _common_prefix(rows: list[tuple[int, ...]]) -> tuple[int, ...]:
    shared: list[int] = []
    for ids in zip(*rows, strict=False):
        if len(set(ids)) > 1:
            break
        shared.append(ids[0])
    return tuple(shared)
