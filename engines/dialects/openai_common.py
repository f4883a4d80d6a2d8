"""What OpenAI's text and chat completions share: usage, choices, token counts of chunks.

Chunks are not tokens. How many tokens a chunk carried is known from its token ids, or from running usage, which is
told apart from usage that comes once at the end: it is on every chunk that has text. Where neither is there, a
chunk with text counts as an event of unknown tokens, and a chunk without text as none (it may be part of a character,
or nothing: the wire does not tell), but for one: the chunk that ends an output may carry its last token, which has no
text (EOS), and does where the engine counted just that one more. Choices beyond the first are taken as they come: the
tokens of all of them count, as the engine's own usage does, and each must have a finish reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from msgspec import Struct

from engines.contract import EARLY_STOPS, Capture, Completion
from engines.dialects.failures import error_event
from engines.dialects.reading import Shortcut, understand
from engines.dialects.runs import Meaning, MeaningOf
from engines.dialects.tally import Tally, count

#: generated text of one choice: (choice) -> text; "" where it has none
TextOf = Callable[[dict[str, Any]], str]


class Choice(Struct, gc=False):
    """One choice of an answer, or of one streamed chunk."""

    index: int
    #: generated text; "" where it has none
    text: str
    #: number of its token ids, -1 where it has none
    ids: int
    #: the finish reason it brought, `None` where it brought none
    finish: str | None
    #: the place of its event among those of the content
    place: int
    #: running completion tokens, -1 where its chunk has no usage
    running: int = -1


@dataclass(slots=True)
class Chunks:
    """The choices of a stream's chunks, until it is known what their usage means. Columns, side by side."""

    indexes: list[int] = field(default_factory=list)
    #: "" where there is none
    texts: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    finishes: list[str | None] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    runnings: list[int] = field(default_factory=list)
    #: rows that brought a finish reason
    ended: list[int] = field(default_factory=list)

    def add(self, choice: Choice) -> None:
        """One more."""
        if choice.finish:
            self.ended.append(len(self.indexes))
        self.indexes.append(choice.index)
        self.texts.append(choice.text)
        self.ids.append(choice.ids)
        self.finishes.append(choice.finish)
        self.places.append(choice.place)
        self.runnings.append(choice.running)

    def add_run(self, index: int, texts: list[str], runnings: list[int] | None, places: Sequence[int]) -> None:
        """Many of one choice, with neither ids nor an end."""
        number = len(texts)
        self.indexes += [index] * number
        self.texts += texts
        self.ids += [-1] * number
        self.finishes += [None] * number
        self.places += places
        self.runnings += [-1] * number if runnings is None else runnings

    def settle(self, tally: Tally) -> None:
        """Turns chunks into token events."""
        tokens_of = self._tokens_of()
        silent = self._silent_ends(tokens_of, tally.output_tokens)
        if not silent and all(self.texts):
            tally.add_events(self.places, tokens_of)
            return
        for row, (text, place, tokens) in enumerate(zip(self.texts, self.places, tokens_of, strict=True)):
            if row in silent:
                tally.add_event(place, 1)
            elif text or tokens > 0:
                tally.add_event(place, tokens)

    def _tokens_of(self) -> list[int]:
        """Tokens of each row, -1 unknown: its ids, else what the running count gained."""
        # A server that says 0 beside every text keeps no running count.
        if max(self.runnings, default=0) <= 0:
            return self.ids
        if min(self.runnings) < 0 and any(r < 0 for r, text in zip(self.runnings, self.texts, strict=True) if text):
            return self.ids
        before: dict[int, int] = {}
        tokens_of = []
        for index, tokens, running in zip(self.indexes, self.ids, self.runnings, strict=True):
            if running >= 0:
                gained = running - before.get(index, 0)
                before[index] = running
                if tokens < 0 and gained >= 0:
                    tokens_of.append(gained)
                    continue
            tokens_of.append(tokens)
        return tokens_of

    def _silent_ends(self, tokens_of: list[int], counted: int | None) -> set[int]:
        """Chunks that end a choice with a token that has no text, such as EOS: the one token an event is missing for.

        Where chunks do not tell their tokens, an end at the length asked for proves none: a chunk may have had two.
        """
        ends = {row for row in self.ended if not self.texts[row] and tokens_of[row] < 0}
        if not ends:
            return ends
        events = [tokens for text, tokens in zip(self.texts, tokens_of, strict=True) if text or tokens > 0]
        if -1 in events:
            ends = {row for row in ends if self.finishes[row] in EARLY_STOPS}
        missing = (counted or 0) - sum(1 if tokens < 0 else tokens for tokens in events)
        return ends if events and len(ends) == missing else set()


@cache
def _meaning_of(delta_text: TextOf) -> MeaningOf:
    """How chunks of a route are understood where they are a run; one and the same for all its answers."""

    def meaning_of(value: dict[str, Any]) -> Meaning | None:
        scratch = Tally()
        choices = _choices(scratch, value, delta_text, 0)
        running = _take_usage(scratch, value)
        plain = len(choices) == 1 and choices[0].ids < 0 and choices[0].finish is None
        if not plain or scratch.malformed or error_event(value, None) is not None:
            return None
        return choices[0].text, running

    return meaning_of


def decode_openai(capture: Capture, delta_text: TextOf, answer_text: TextOf) -> Completion:
    """Decodes a stream or a plain answer.

    Args:
        capture: what the load process kept.
        delta_text: generated text of a streamed chunk's choice.
        answer_text: generated text of a plain answer's choice.
    """
    chunks = Chunks()

    def take_event(tally: Tally, value: dict[str, Any], place: int) -> None:
        choices = _choices(tally, value, delta_text, place)
        usage = _take_usage(tally, value)
        if usage is not None and len(choices) == 1:
            choices[0].running = usage
        for choice in choices:
            chunks.add(choice)

    def take_run(tally: Tally, texts: list[str], counts: list[int] | None, places: Sequence[int]) -> None:
        # What does not change from one to the next was taken with the event before them.
        choice = chunks.indexes[-1]
        chunks.add_run(choice, texts, counts, places)
        tally.add_texts(choice, texts)
        tally.output_tokens = counts[-1] if counts else tally.output_tokens

    def take_answer(tally: Tally, value: dict[str, Any], place: int) -> None:
        choices = _choices(tally, value, answer_text, place)
        _take_usage(tally, value)
        tokens = tally.output_tokens
        if tokens is None:
            tokens = sum(choice.ids for choice in choices) if all(choice.ids >= 0 for choice in choices) else -1
        if tokens > 0 or any(choice.text for choice in choices):
            tally.add_event(place, tokens)

    return understand(capture, take_event, take_answer, chunks.settle, Shortcut(_meaning_of(delta_text), take_run))


def _choices(tally: Tally, value: dict[str, Any], text_of: TextOf, place: int) -> list[Choice]:
    """The choices of an answer or a chunk, tallied."""
    model = value.get("model")
    if isinstance(model, str) and model:
        tally.model = model
    choices = value.get("choices")
    if not isinstance(choices, list):
        if value.get("usage") is None:
            tally.malformed = tally.malformed or "an object without choices"
        return []
    found = []
    for choice in choices:
        if not isinstance(choice, dict):
            tally.malformed = tally.malformed or "a choice that is not an object"
            continue
        index = count(choice.get("index")) or 0
        text = text_of(choice)
        if text:
            tally.add_text(index, text)
        # An empty finish reason is how TGI says that there is none yet.
        reason = choice.get("finish_reason")
        tally.add_finish(index, reason)
        ids = choice.get("token_ids")
        counted = _take_ids(tally, ids) if isinstance(ids, list) else -1
        found.append(Choice(index, text, counted, reason if isinstance(reason, str) and reason else None, place))
    return found


def _take_ids(tally: Tally, ids: list[Any]) -> int:
    good = [i for i in ids if count(i) is not None]
    tally.token_ids = good if tally.token_ids is None else tally.token_ids + good
    return len(good)


def _take_usage(tally: Tally, value: dict[str, Any]) -> int | None:
    """Keeps the latest usage; gives its completion tokens, `None` where the object has no usage."""
    usage = value.get("usage")
    if not isinstance(usage, dict):
        return None
    output = count(usage.get("completion_tokens"))
    if output is not None:
        tally.output_tokens = output
        tally.count_source = "usage"
    # TGI says 0 where it did not stream, and has the count in a header: no prompt has no tokens.
    tally.input_tokens = count(usage.get("prompt_tokens")) or tally.input_tokens
    details = usage.get("prompt_tokens_details")
    if isinstance(details, dict):
        cached = count(details.get("cached_tokens"))
        tally.cached_tokens = tally.cached_tokens if cached is None else cached
    return output
