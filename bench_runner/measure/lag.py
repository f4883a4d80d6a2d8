"""How late requests were sent by the client itself: what waited for a slot of a capped open loop waited by design."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from bench_runner.measure.record import RequestRecord


def own_lags_s(records: Sequence[RequestRecord], max_concurrency: int | None) -> list[float]:
    """Sent - due of every request that was sent, in the order of the records; not of those that were sent again, whose
    moment is that of the second time, which the engine brought about.

    Due is the scheduled moment, or, where as many as the cap were under way then, the end of the first of these. A
    failed request whose end is not known holds its slot for no time, which may only make lags longer.
    """
    if max_concurrency is None:
        return [lag for record in records if not record.resends and (lag := record.send_lag_s) is not None]
    lags: dict[int, float] = {}
    under_way: list[int] = []
    for at in sorted(range(len(records)), key=lambda k: (records[k].sent_ns or 0, records[k].scheduled_ns)):
        record = records[at]
        if record.sent_ns is None:
            continue
        due = record.scheduled_ns
        if len(under_way) >= max_concurrency:
            due = max(due, heappop(under_way))
        lags[at] = max(record.sent_ns - due, 0) / 1e9
        heappush(under_way, record.sent_ns if record.closed_ns is None else record.closed_ns)
    return [lags[at] for at in range(len(records)) if at in lags and not records[at].resends]
