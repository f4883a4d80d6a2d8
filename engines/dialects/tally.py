"""What was understood of one response so far: the ledger that a dialect fills while it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engines.contract import Failure
from engines.dialects.failures import clean

_LARGEST = 2**62


@dataclass(slots=True)
class Tally:
    """What was understood of one response so far. Lives inside one decode."""

    #: which event of the content each token event is, in their order from 0, and its tokens (-1 unknown), side by side
    event_places: list[int] = field(default_factory=list)
    event_tokens: list[int] = field(default_factory=list)
    #: generated text of each choice, by the choice's index
    texts: dict[int, list[str]] = field(default_factory=dict)
    #: finish reason of each choice seen, `None` until it has one
    finish_reasons: dict[int, str | None] = field(default_factory=dict)
    token_ids: list[int] | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    count_source: str | None = None
    model: str | None = None
    #: an error the engine reported inside a 200
    error: Failure | None = None
    #: what is wrong with the content
    malformed: str | None = None
    #: the stream ends inside an event
    cut: bool = False

    def add_event(self, place: int, tokens: int) -> None:
        """One event that carried generated text or a token."""
        self.event_places.append(place)
        self.event_tokens.append(tokens)

    def add_finish(self, choice: int, reason: Any) -> None:
        """What a choice says of its end; anything but a text that says something is not an end yet."""
        said = clean(reason, 100) if reason and isinstance(reason, str) else None
        if said or choice not in self.finish_reasons:
            self.finish_reasons[choice] = said or None

    def add_events(self, places: Sequence[int], tokens: Sequence[int]) -> None:
        """Many of them, side by side."""
        self.event_places += places
        self.event_tokens += tokens

    def add_text(self, choice: int, text: str) -> None:
        """More generated text of one choice."""
        self.texts.setdefault(choice, []).append(text)

    def add_texts(self, choice: int, texts: list[str]) -> None:
        """Much of it."""
        self.texts.setdefault(choice, []).extend(texts)

    @property
    def text(self) -> str:
        """The text of all choices in their order. A surrogate without its partner becomes a replacement character."""
        text = "".join("".join(parts) for _, parts in sorted(self.texts.items()))
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text

    @property
    def arrived(self) -> int | None:
        """Tokens that came: as many as there are ids, or as all events tell together; `None` where that is unknown."""
        if self.token_ids is not None:
            return len(self.token_ids)
        return sum(self.event_tokens) if self.event_tokens and -1 not in self.event_tokens else None

    @property
    def finish_reason(self) -> str | None:
        """The first choice's, or the first that is not a usual one; `None` where a choice has none."""
        reasons = [self.finish_reasons[choice] for choice in sorted(self.finish_reasons)]
        bad = [r for r in reasons if r in ("abort", "error")]
        if bad:
            return bad[0]
        return reasons[0] if reasons and None not in reasons else None


def count(value: Any) -> int | None:
    """A token count as a server gives it; `None` where it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST else None
