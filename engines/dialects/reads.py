"""When the content of a response arrived: event -> the read that completed it -> its stamp."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain, repeat
from itertools import count as count_up
from operator import eq, gt, le, lt, sub

from engines.contract import Capture
from engines.dialects.http1_response import CLOSING_BYTES, ParsedResponse

#: events at the end of a stream that need not come in reads of their own
_LAST_TOGETHER = 4


class Reads:
    """The reads of one response, and which of them carried which event."""

    def __init__(self, capture: Capture, parsed: ParsedResponse) -> None:
        self._capture = capture
        self._parsed = parsed
        self._ends = list(accumulate(capture.read_bytes))
        self._last = min(len(capture.read_user_ns), len(capture.read_kernel_ns), len(self._ends)) - 1
        #: by an event's place: the read that completed it, and the piece of the body (its chunk) that did
        self._carried: list[int] = []
        self._pieces: Sequence[int] = ()

    def place(self, content_ends: Sequence[int]) -> None:
        """Finds all events of the content by the offsets just behind their last data lines, which rise."""
        parsed, number = self._parsed, len(content_ends)
        piece_ends = parsed.raw_ends[:number]
        # Nearly always each is a chunk of its own, of which the empty line behind it is the last byte.
        if content_ends == [end - 1 for end in parsed.content_ends[:number]]:
            self._pieces = range(number)
            raw_ends = [end - 1 - CLOSING_BYTES for end in piece_ends]
        else:
            self._pieces, raw_ends = self._find_pieces(content_ends)
            piece_ends = []
        self._carried = self._reads_of(raw_ends, piece_ends)

    def _find_pieces(self, content_ends: Sequence[int]) -> tuple[list[int], list[int]]:
        """The piece that each event ends in, and where that is in the raw bytes."""
        ends, closed = self._parsed.content_ends, self._parsed.raw_ends
        last, piece = len(ends) - 1, 0
        pieces, raw_ends = [], []
        for content_end in content_ends:
            while piece < last and ends[piece] < content_end:
                piece += 1
            pieces.append(piece)
            raw_ends.append(closed[piece] - CLOSING_BYTES - (ends[piece] - content_end))
        return pieces, raw_ends

    def _reads_of(self, raw_ends: list[int], piece_ends: list[int]) -> list[int]:
        """Of bytes whose offsets rise, the read that carried the one before each.

        `piece_ends`: where the chunks end whose last bytes they are, or [].
        """
        ends, last, number = self._ends, max(self._last, 0), len(raw_ends)
        # Mostly one read an event, up to the last few of a stream, which come together.
        first = bisect_left(ends, raw_ends[0]) if raw_ends else 0
        singly = max(min(number - _LAST_TOGETHER, last - first), 0)
        behind = first + singly
        some = ends[first:behind]
        if not singly or (
            some != piece_ends[:singly]
            and not (all(map(le, raw_ends[:singly], some)) and all(map(lt, some, raw_ends[1 : singly + 1])))
        ):
            singly = behind = 0
        # Of the others, how many were there at the end of each read but the last, which has the rest.
        others = raw_ends[singly:]
        by_then = list(map(bisect_right, repeat(others), ends[behind:last]))
        each = map(sub, [*by_then, len(others)], [0, *by_then])
        return [*range(first, behind), *chain.from_iterable(map(repeat, count_up(behind), each))]

    def carried(self, places: Sequence[int]) -> list[int]:
        """The read of each of these events."""
        if are_consecutive(places):
            return self._carried[places[0] : places[-1] + 1]
        return list(map(self._carried.__getitem__, places))

    def shared(self, carried: list[int]) -> array[int]:
        """By event: 1 where it shares its read with the one before it."""
        if are_consecutive(carried):
            return array("b", bytes(len(carried)))
        return array("b", map(eq, carried, [-1, *carried]))

    def merged(self, places: Sequence[int], shared: array[int]) -> int:
        """How many of the shared ones of these events came in a chunk of their own, as far as is known."""
        chunked = self._parsed.head is not None and self._parsed.head.chunked
        pieces = list(map(self._pieces.__getitem__, places)) if chunked else places
        return sum(map(gt, shared[1:], map(eq, pieces[1:], pieces)))

    def stamp_ns(self, read: int) -> tuple[int, bool]:
        """The read's stamp, and whether the kernel gave it."""
        if self._last < 0:
            return self._capture.ended_ns, False
        kernel = self._capture.read_kernel_ns[read]
        return (kernel, True) if kernel > 0 else (self._capture.read_user_ns[read], False)

    def stamps_ns(self, reads: list[int]) -> tuple[array[int], str]:
        """The stamps of many reads, which rise, and the clock they are from, as `Completion.clock` has it."""
        if not reads:
            return array("q"), ""
        if self._last < 0:
            return array("q", [self._capture.ended_ns] * len(reads)), "user"
        kernel = self._capture.read_kernel_ns
        stamps = (
            kernel[reads[0] : reads[-1] + 1] if are_consecutive(reads) else array("q", map(kernel.__getitem__, reads))
        )
        if min(stamps) > 0:
            return stamps, "kernel"
        both = [self.stamp_ns(read) for read in reads]
        stamps = array("q", [stamp for stamp, _ in both])
        if not any(from_kernel for _, from_kernel in both):
            return stamps, "user"
        # Our own reading may be late where the kernel's is not. Bytes arrive in order: none came after a later one.
        for k in range(len(stamps) - 2, -1, -1):
            stamps[k] = min(stamps[k], stamps[k + 1])
        return stamps, "mixed"

    @property
    def last(self) -> int:
        """The last read."""
        return max(0, self._last)


def are_consecutive(numbers: Sequence[int]) -> bool:
    """Each is one more than the one before it, and there are some."""
    return bool(numbers) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
