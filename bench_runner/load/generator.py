"""The loop of a load process: sends what is due, keeps what comes with the moment it came, until the window is over.

Nothing here understands a response beyond where it ends, and nothing remembers a request that is over.
"""

from __future__ import annotations

import select
import socket
from collections import OrderedDict

from bench_runner.load.channel import (
    CANCEL,
    DEADLINE,
    NEVER_NS,
    READY,
    START,
    WINDOW_ENDINGS,
    Counters,
    Outcome,
    WorkerGone,
    unpack_instant,
)
from bench_runner.load.connection import (
    ANCILLARY_BYTES,
    BUSY,
    CLOSED,
    FAILED,
    IDLE,
    OPENING,
    READ_BYTES,
    Connection,
)
from bench_runner.load.host import peak_memory_kib, read_counters
from bench_runner.load.planfile import Plan
from bench_runner.load.pool import Pool
from bench_runner.load.schedule import Schedule
from bench_runner.load.spool import (
    CANCELLED,
    COMPLETE,
    CONNECT,
    EOF,
    HOLD_READS,
    MALFORMED,
    RESET,
    TIMEOUT,
    Read,
    SpoolWriter,
)
from bench_runner.load.tally import Tally
from bench_runner.load.timer import Timer
from engines.clock import monotonic_ns, process_cpu_ns
from engines.dialects.http1 import WHOLE_CHUNKS, are_whole_chunks

#: the tally is published, and the spool written, this often
TICK_NS = 250_000_000
EPOLLIN = select.EPOLLIN
#: a read of so many bytes does not wait for others to be written with it: what is held stays small
LARGE_READ_BYTES = 2_048
#: events taken at once: between two batches the schedule is looked at
MAX_EVENTS = 64
#: sockets that answer later than this had nothing when they were asked
WAITED_NS = 200_000


class Generator:
    """One window of load. `run` once."""

    def __init__(
        self, plan: Plan, schedule: Schedule, spool: SpoolWriter, channel: socket.socket, counters: Counters
    ) -> None:
        self._plan = plan
        self._spool = spool
        self._channel = channel
        self._epoll = select.epoll()
        self._timer = Timer()
        self._epoll.register(self._timer.fd, select.EPOLLIN)
        self._epoll.register(channel.fileno(), select.EPOLLIN)
        self._pool = Pool(plan, self._epoll)
        self._schedule = schedule
        #: sent and not over, in the order of their deadlines
        self._in_flight: OrderedDict[Connection, None] = OrderedDict()
        #: how the window ended, in the words of WINDOW_ENDINGS; `None`: it did not
        self._ended: str | None = None
        self._lease_ns = NEVER_NS
        #: the window's first instant, once it is told
        self._start_ns = NEVER_NS
        self._run_end_ns = NEVER_NS
        self._preparing = True
        #: before the window: no connection may take longer than until then
        self._ready_by_ns = NEVER_NS
        self._wake_ns = 0
        #: when sockets were last asked what they have; and the last moment at which all that had come was read, or
        #: is in hand
        self._asked_ns = self._caught_up_ns = monotonic_ns()
        self._tick_ns = 0
        self._tally = Tally(counters)

    def run(self) -> Outcome:
        """Opens connections, says so, holds the window from the instant it is told, closes all.

        Raises:
            WorkerGone: the other end of the channel was closed.
            LoadBroken: no more files can be opened.
            OSError: the spool cannot be written.
        """
        self._prepare()
        if self._ended is None:
            self._channel.send(READY)
        while self._ended is None and self._start_ns == NEVER_NS:
            self._turn()
        before = read_counters()  # in the lead-in: the first send does not wait for it
        while self._ended is None and monotonic_ns() < self._start_ns:
            self._turn()
        # A wait for the start that a cancel cut short is no window.
        start_ns = min(self._start_ns, monotonic_ns())
        cpu_ns = process_cpu_ns()
        while self._ended is None:
            self._turn()
        end_ns = monotonic_ns()
        cpu_ns = process_cpu_ns() - cpu_ns
        after = read_counters()
        self._pool.clear()
        self._write_down()
        return Outcome(
            WINDOW_ENDINGS.index(self._ended),
            start_ns,
            end_ns,
            cpu_ns,
            self._spool.max_lag_ns,
            int(self._tally.clock_stepped),
            self._pool.opened,
            after.preemptions - before.preemptions,
            _moved(before.cpu_wait_ns, after.cpu_wait_ns),
            _moved(before.stolen_ms, after.stolen_ms),
            peak_memory_kib(),
            priority=0,
        )

    def _prepare(self) -> None:
        """Opens the connections that the window begins with."""
        self._run_end_ns = monotonic_ns() + self._plan.run_timeout_ns
        while self._ended is None:
            self._turn()
            if not self._pool.opening and len(self._pool.idle) >= self._schedule.wanted_connections:
                break
        self._preparing = False
        self._ready_by_ns = NEVER_NS

    def _turn(self) -> None:
        """Waits for something to happen and answers it.

        The hot path is in here, for a call costs as much as what it does: nearly every event is a read of one whole
        chunk of a stream, or of several, of which nothing is to be understood. Its stamp is taken just behind the read.
        """
        find = self._pool.table.get
        reads = self._spool.reads
        ready = self._epoll.poll(-1 if self._wake_ns else 0, MAX_EVENTS)
        answered_ns = monotonic_ns()
        if answered_ns - self._asked_ns > WAITED_NS:
            self._caught_up_ns = answered_ns  # there was nothing to read until now
        for fd, mask in ready:
            connection = find(fd)
            if mask != EPOLLIN or connection is None or not connection.framer.between_chunks:
                self._react(fd, mask, connection)
            else:
                try:
                    data, ancillary, _, _ = connection.recvmsg(READ_BYTES, ANCILLARY_BYTES)
                except OSError as error:
                    self._misread(connection, error)
                else:
                    now = monotonic_ns()
                    if data.startswith(WHOLE_CHUNKS[len(data)]) and data.endswith(b"\r\n"):
                        reads.append((connection.position, now, ancillary, data))
                        continue
                    if are_whole_chunks(data):
                        reads.append((connection.position, now, ancillary, data))
                        connection.waited_ns = max(connection.waited_ns, now - self._caught_up_ns)
                        if len(data) >= LARGE_READ_BYTES:
                            self._spool.flush(self._tally.offset_ns)
                        continue
                    self._take(connection, (connection.position, now, ancillary, data))
            if self._ended is not None:
                return
        if len(reads) >= HOLD_READS:
            self._spool.flush(self._tally.offset_ns)
        if len(ready) < MAX_EVENTS:
            self._caught_up_ns = answered_ns  # what was not among them came later
        now = monotonic_ns()
        if now >= self._wake_ns:
            self._advance(now)
            now = monotonic_ns()
        self._asked_ns = now

    def _react(self, fd: int, mask: int, connection: Connection | None) -> None:
        """Answers whatever is not the next chunk of a stream."""
        if connection is None:
            self._answer(fd)
        elif mask & select.EPOLLERR and self._stamp_sent(connection):
            pass  # whatever else happened is still there at the next turn
        elif connection.state == BUSY:
            if mask & select.EPOLLOUT:
                self._flush(connection)
            if mask & ~select.EPOLLOUT:
                self._receive(connection)
        elif connection.state == OPENING:
            self._pool.advance(connection)
            self._wake_ns = 0
        elif connection.state == IDLE:
            self._pool.wither(connection)
            self._wake_ns = 0

    def _answer(self, fd: int) -> None:
        """The timer fired, or the worker said something."""
        if fd == self._timer.fd:
            self._timer.drain()
            return
        if fd != self._channel.fileno():
            return  # closed earlier in this batch
        message = self._channel.recv(64)
        if not message:
            raise WorkerGone
        if message[:1] == CANCEL:
            self._stop("cancelled", "the run was cancelled")
        elif message[:1] == DEADLINE:
            self._lease_ns = unpack_instant(message)
            self._wake_ns = 0
        elif message[:1] == START:
            self._start_ns = unpack_instant(message)
            self._run_end_ns = self._start_ns + self._plan.run_timeout_ns
            self._schedule.open(self._start_ns)
            self._wake_ns = 0

    def _advance(self, now: int) -> None:
        """Does what time and free slots ask for, then sets the timer for the next such moment."""
        if now >= self._lease_ns:
            return self._stop("lapsed", "the lease of the run lapsed")
        if now >= self._run_end_ns:
            return self._stop("timeout", "the run's own time limit was reached")
        self._expire(now)
        self._schedule.mark(now)
        if now >= self._start_ns and self._schedule.over:
            self._ended = "complete"
            return None
        self._wake_ns = now + 1  # whatever is stirred up below asks for another turn at once
        self._pool.fill(self._schedule.wanted_connections, self._ready_by_ns)
        self._dispatch(now)
        if now >= self._tick_ns:
            self._tick_ns = now + TICK_NS
            self._write_down()
        if self._ended is None and self._wake_ns:
            self._wake_ns = self._next_moment()
            self._timer.arm(self._wake_ns)
        return None

    def _write_down(self) -> None:
        """What was measured so far goes to the spool, its counts to the worker."""
        self._spool.flush(self._tally.offset_ns)
        self._plan.forget()
        self._tally.received_bytes = self._spool.received_bytes
        self._tally.publish()

    def _next_moment(self) -> int:
        moments = [self._tick_ns, self._lease_ns, self._run_end_ns]
        if self._in_flight:
            moments.append(next(iter(self._in_flight)).deadline_ns)
        if (deadline_ns := self._pool.next_deadline_ns) is not None:
            moments.append(deadline_ns)
        if self._start_ns > self._wake_ns:
            moments.append(self._start_ns)
        if (due_ns := self._schedule.next_ns) is not None:
            moments.append(due_ns)
        return min(moments)

    def _dispatch(self, now: int) -> None:
        """Sends what is due on the connections that are ready."""
        pool, schedule = self._pool, self._schedule
        while pool.bound and self._ended is None:
            self._send(pool.bound.popleft())
        while pool.idle and schedule.sendable and self._ended is None:
            connection = pool.idle.popleft()
            connection.begin(*schedule.take())
            self._send(connection)

    def _send(self, connection: Connection) -> None:
        if connection.state == FAILED:
            self._finish(connection, CONNECT, monotonic_ns(), connection.error)
            return
        payload = self._plan.payload(connection.position)
        if connection.tls is not None:
            payload = memoryview(connection.tls.encrypt(payload))
        connection.state = BUSY
        sent_ns = monotonic_ns()
        if sent_ns >= self._lease_ns:
            self._in_flight[connection] = None
            self._stop("lapsed", "the lease of the run lapsed")
            return
        connection.quick_ack = self._plan.quick_ack
        alive = connection.send(payload)
        connection.sent_ns = sent_ns
        connection.deadline_ns = sent_ns + self._plan.request_timeout_ns
        self._in_flight[connection] = None
        self._spool.note(connection)
        self._tally.sent += connection.resends == 0
        if alive and connection.pending is not None:
            self._epoll.modify(connection.fd, select.EPOLLIN | select.EPOLLOUT)

    def _stamp_sent(self, connection: Connection) -> bool:
        """Takes a transmit stamp, if that is what the socket reports. One of an earlier request is of no use."""
        wall_ns = connection.transmitted_ns()
        stamp_ns = wall_ns - self._tally.offset_ns
        if connection.state == BUSY and connection.sent_ns <= stamp_ns <= monotonic_ns():
            connection.sent_kernel_ns = connection.sent_kernel_ns or stamp_ns
        return wall_ns != 0

    def _flush(self, connection: Connection) -> None:
        """The socket takes more of a request. Where the peer is gone, reading will tell."""
        connection.quick_ack = self._plan.quick_ack
        alive = connection.pending is not None and connection.send(connection.pending, first=False)
        if not alive or connection.pending is None:
            self._epoll.modify(connection.fd, select.EPOLLIN)

    def _receive(self, connection: Connection) -> None:
        """One read of any kind, and the stamp just behind it."""
        try:
            data, ancillary, _, _ = connection.recvmsg(READ_BYTES, ANCILLARY_BYTES)
        except OSError as error:
            self._misread(connection, error)
        else:
            self._take(connection, (connection.position, monotonic_ns(), ancillary, data))

    def _misread(self, connection: Connection, error: OSError) -> None:
        if not isinstance(error, BlockingIOError):
            self._lose(connection, RESET, str(error))

    def _take(self, connection: Connection, read: Read) -> None:
        """Understands of a read what there is to understand: where the response ends, or that the connection did."""
        position, now, ancillary, data = read
        if connection.quick_ack and data:
            # Sending makes the kernel delay its ACKs; told otherwise, it does not for as long as nothing is sent.
            connection.quick_ack = False
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        closed = not data
        if connection.tls is not None and data:
            try:
                data, closed = connection.tls.decrypt(data)
            except OSError as error:  # ssl.SSLError is one
                self._lose(connection, RESET, f"TLS: {error}")
                return
        if data:
            connection.answered = True
            self._spool.reads.append((position, now, ancillary, data))
            if len(data) >= LARGE_READ_BYTES:
                self._spool.flush(self._tally.offset_ns)
            over = connection.framer.feed(data)
            if connection.framer.several:
                connection.waited_ns = max(connection.waited_ns, now - self._caught_up_ns)
            if over:
                malformed = connection.framer.malformed
                self._finish(connection, MALFORMED if malformed else COMPLETE, now, malformed or "")
        if closed and connection.state == BUSY:
            self._lose(connection, EOF, "")

    def _lose(self, connection: Connection, ending: int, error: str) -> None:
        """The connection ended before the response did: sent again, once, where it was only a stale connection."""
        if connection.served and not connection.answered and connection.resends == 0:
            self._in_flight.pop(connection, None)
            self._pool.drop(connection)
            connection.resends = 1
            # Opened after this batch of events: a new connection may get a number that is still in it.
            self._pool.stale.append(connection)
            self._wake_ns = 0
        elif not connection.answered and connection.pending is not None:
            self._finish(connection, CONNECT, monotonic_ns(), error or "closed before the request was out")
        else:
            self._finish(connection, ending, monotonic_ns(), error)

    def _expire(self, now: int) -> None:
        """Gives up connections that did not open and requests that were not answered in time."""
        if self._pool.expire(now) and self._preparing and self._ready_by_ns == NEVER_NS:
            # One hangs: the others get as long again, all together, not each in its turn.
            self._ready_by_ns = now + self._plan.connect_timeout_ns
        while self._in_flight:
            connection = next(iter(self._in_flight))
            if connection.deadline_ns > now:
                return
            limit_s = self._plan.request_timeout_ns / 1e9
            self._finish(connection, TIMEOUT, now, f"no complete response within {limit_s:g} s")

    def _stop(self, ended: str, reason: str) -> None:
        """Ends the window now. What was measured is kept; nothing more is sent."""
        now = monotonic_ns()
        for connection in [*self._in_flight, *self._pool.resending()]:
            self._finish(connection, CANCELLED, now, reason)
        self._ended = ended

    def _finish(self, connection: Connection, ending: int, now: int, error: str) -> None:
        """A request is over: the spool gets what is left of it, the connection another request or its end."""
        self._spool.note(connection, ending, now, error)
        self._in_flight.pop(connection, None)
        self._schedule.release(connection.position, now)
        self._tally.finished += 1
        status = connection.framer.status
        whole = ending == COMPLETE or (ending == EOF and connection.framer.until_close)
        if not whole or status is None or not 200 <= status < 300:
            self._tally.failed += 1
        reusable = ending == COMPLETE and connection.framer.keep_alive and connection.pending is None
        if reusable and not self._plan.fresh_connections:
            connection.rest()
            self._pool.idle.append(connection)
        elif connection.state not in (FAILED, CLOSED):
            self._pool.drop(connection, reset=ending in (TIMEOUT, CANCELLED))
        self._wake_ns = 0
        if self._schedule.over:
            self._ended = "complete"


def _moved(before: int | None, after: int | None) -> int:
    """How far a counter moved; -1 where it is not told."""
    return -1 if before is None or after is None else after - before
