"""Each event has the stamp of the read that completed it, however chunks and reads fall."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from engines.dialects.openai_completions import OPENAI_COMPLETIONS
from tests.fakes.captures import LAG_NS, READ_NS, STEP_NS, cut, event, head, make_capture

#: tokens of each chunk, chunks of each read: mostly one
NUMBERS = st.lists(st.sampled_from([1, 1, 1, 1, 1, 2, 3]), min_size=1, max_size=40)
LETTERS = "abcdefgh"


def text(number: int, *, last: bool = False) -> bytes:
    """One event; its text, and so its length, differs from one to the next."""
    reason = "length" if last else None
    letters = LETTERS[: number % 7 + 1]
    return event({"id": "cmpl-1", "choices": [{"index": 0, "text": letters, "finish_reason": reason}]})


@given(NUMBERS, NUMBERS, st.lists(st.integers(0, 20_000), max_size=3))
def test_the_read_that_completed_an_event_stamps_it(tokens: list[int], chunks: list[int], places: list[int]) -> None:
    events = [text(k, last=k == sum(tokens) - 1) for k in range(sum(tokens))]
    opening = head(transfer_encoding="chunked")
    raw, completed, parts, at = opening, [], [opening], 0
    for number in tokens:
        data = b"".join(events[at : at + number])
        begin = len(raw) + len(b"%x\r\n" % len(data))
        # An event is known with the line end behind its data, before the empty line.
        completed += [begin + end - 1 for end in accumulate(map(len, events[at : at + number]))]
        parts.append(b"%x\r\n%b\r\n" % (len(data), data))
        raw += parts[-1]
        at += number
    parts.append(b"0\r\n\r\n")
    reads, at = [], 0
    for number in (*chunks, len(parts)):
        reads.append(b"".join(parts[at : at + number]))
        at += number
    pieces = [piece for read in reads for piece in (cut(read, places) if len(read) % 3 == 0 else [read]) if piece]
    got = OPENAI_COMPLETIONS.decode(make_capture(pieces))
    ends = list(accumulate(map(len, pieces)))
    carried = [bisect_left(ends, end) for end in completed]
    assert list(got.event_ns) == [READ_NS + STEP_NS * read - LAG_NS for read in carried]
    chunk_of = [k for k, number in enumerate(tokens) for _ in range(number)]
    neighbours = list(zip(carried, chunk_of, carried[1:], chunk_of[1:], strict=False))
    assert list(got.event_shared) == [0, *(int(a == b) for a, _, b, _ in neighbours)]
    assert got.merged_events == sum(a == b and c != d for a, c, b, d in neighbours)
