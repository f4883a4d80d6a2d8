"""What is to be replayed, and one request that is being answered with a part of it."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from engines.simulated.connection import Connection
from engines.simulated.http import LAST_CHUNK, chunk
from engines.simulated.truth import TruthRecord

_EVENT = b'data: {"object":"text_completion","choices":[{"index":0,"text":" %b","finish_reason":null}]}\n\n'
_BARE_BYTES = len(_EVENT % b"")


class Timeline:
    """What is to be replayed: JSON, `{"event_bytes": B, "offsets_ns": [[…], …]}`, one row a request.

    Offsets are from the request's arrival and never fall; tokens that are due together leave together, or where
    `"singly": true` each in a send of its own, in turn with those of other requests. `event_bytes` is the size of one
    token's event, its end included; one that is too small is taken as the smallest there can be. `"keep": N` keeps the
    truth of the last N requests in place of twice as many as there are rows.
    """

    def __init__(
        self, event_bytes: int, offsets_ns: Sequence[Sequence[int]], *, singly: bool = False, keep: int | None = None
    ) -> None:
        #: one token, as it leaves
        self.token = chunk(_EVENT % (b"x" * max(1, event_bytes - _BARE_BYTES)))
        self.rows = offsets_ns
        self.singly = singly
        self.keep = max(1, 2 * len(offsets_ns)) if keep is None else keep

    @classmethod
    def read(cls, path: Path) -> Timeline:
        """The timeline in a file."""
        stored = json.loads(path.read_bytes())
        return cls(
            stored["event_bytes"], stored["offsets_ns"], singly=stored.get("singly", False), keep=stored.get("keep")
        )

    def end(self, prompt_tokens: int, tokens: int, reason: str) -> bytes:
        """What follows the last token: why it ended, how many there were."""
        last = b'data: {"choices":[{"index":0,"text":"","finish_reason":"%b"}]}\n\n' % reason.encode()
        usage = b'data: {"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d}}\n\n'
        return chunk(last + usage % (prompt_tokens, tokens) + b"data: [DONE]\n\n") + LAST_CHUNK


class Answer:
    """One request being answered."""

    __slots__ = ("_offsets_ns", "connection", "truth")

    def __init__(self, connection: Connection, offsets_ns: Sequence[int], truth: TruthRecord) -> None:
        self.connection = connection
        self.truth = truth
        self._offsets_ns = offsets_ns

    @property
    def next_ns(self) -> int | None:
        """When the next token is due; `None`: all are out."""
        sent = len(self.truth.token_ns)
        return self.truth.arrival_ns + self._offsets_ns[sent] if sent < len(self._offsets_ns) else None

    def due(self, now_ns: int) -> int:
        """Tokens that are to leave now."""
        sent = len(self.truth.token_ns)
        return bisect_right(self._offsets_ns, now_ns - self.truth.arrival_ns, sent) - sent
