"""An engine's own metrics, read while it is driven: never for long, never for ever, never in the way."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from engines import watch as module
from engines.catalog import find_engine
from engines.clock import monotonic_ns, sleep_s
from engines.contract import Origin
from engines.watch import Watch
from tests.integration.engines.answering import Answering, Asked, Reply, answering

VLLM = find_engine("vllm")
PAGE = b'vllm:num_requests_running{engine="0"} 3.0\nvllm:num_requests_waiting{engine="0"} 1.0\nvllm:other 9.0\n'


def origin(server: Answering) -> Origin:
    return Origin("http", "127.0.0.1", server.port, "/v1", "127.0.0.1")


def watch_of(server: Answering, interval_s: float = 0.01) -> Watch:
    return Watch(origin(server), VLLM, interval_s=interval_s)


def wait_for(watch: Watch, scrapes: int) -> None:
    deadline_ns = monotonic_ns() + 20 * 10**9
    while watch.scrapes < scrapes and watch.given_up is None:
        assert monotonic_ns() < deadline_ns, f"{watch.scrapes} of {scrapes}"
        sleep_s(0.005)


def test_it_reads_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARE", 1.0)
    with answering({"/metrics": Reply(200, PAGE)}) as server, watch_of(server, 0.01) as watch:
        began_ns = monotonic_ns()
        wait_for(watch, 5)
        watch.stop()
        seen = watch.scrapes
        sleep_s(0.1)
        assert watch.scrapes == seen == len(watch.readings) == len(server.asked)
        assert watch.given_up is None
        for reading in watch.readings:
            assert reading.values == {"requests_running": 3.0, "requests_waiting": 1.0}
            assert began_ns - 10**9 < reading.asked_ns < reading.answered_ns < monotonic_ns()


def test_a_long_series_is_thinned_and_goes_on_seldomer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARE", 1.0)
    monkeypatch.setattr(module, "MOST_READINGS", 8)
    with answering({"/metrics": Reply(200, PAGE)}) as server, watch_of(server, 0.001) as watch:
        wait_for(watch, 30)
        watch.stop()
        assert len(watch.readings) < 8
        stamps = [reading.asked_ns for reading in watch.readings]
        assert stamps == sorted(stamps)


def test_an_engine_that_is_slow_with_its_metrics_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(module, "SHARE", 1.0)
    released = threading.Event()

    def slow(_: Asked) -> Reply:
        released.wait(20)
        return Reply(200, PAGE)

    with answering({"/metrics": slow}) as server:
        try:
            with watch_of(server) as watch:
                wait_for(watch, 4)
        finally:
            released.set()
        assert watch.scrapes == 3
        assert watch.readings == ()
        assert watch.given_up == "3 times in a row it gave no metrics within 0.05 s"


def test_a_slow_scrape_takes_no_more_than_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARE_AT_FIRST", 0.2)
    monkeypatch.setattr(module, "SHARE", 0.05)

    def slow(_: Asked) -> Reply:
        sleep_s(0.05)
        return Reply(200, PAGE)

    with answering({"/metrics": slow}) as server, watch_of(server) as watch:
        wait_for(watch, module.FIRST + 2)
        watch.stop()
        apart_s = [(b.asked_ns - a.asked_ns) / 1e9 for a, b in pairwise(watch.readings)]
        assert min(apart_s[: module.FIRST]) >= 0.24
        assert apart_s[module.FIRST] >= 0.95


@pytest.mark.parametrize("name", ["openai", "transformers"])
def test_an_engine_without_metrics_is_never_asked(name: str) -> None:
    with answering({}) as server, Watch(origin(server), find_engine(name), interval_s=0.01) as watch:
        sleep_s(0.05)
        watch.stop()
        assert server.asked == []
        assert (watch.scrapes, watch.readings, watch.given_up) == (0, (), "it has none")


def test_an_engine_that_is_to_be_left_alone_is_never_asked() -> None:
    with answering({"/metrics": Reply(200, PAGE)}) as server, Watch(origin(server), VLLM, interval_s=None) as watch:
        sleep_s(0.05)
        watch.stop()
        assert server.asked == []
        assert (watch.scrapes, watch.readings, watch.given_up) == (0, (), "it was not to be")


def test_a_fault_of_its_own_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> dict[str, float]:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(module, "scrape", broken)
    with answering({"/metrics": Reply(200, PAGE)}) as server, watch_of(server) as watch:
        wait_for(watch, 1)
        watch.stop()
    assert (watch.scrapes, watch.given_up) == (1, "reading them broke (ZeroDivisionError: by nothing)")


def test_a_block_that_breaks_off_ends_it() -> None:
    with answering({"/metrics": Reply(200, PAGE)}) as server:
        with pytest.raises(ZeroDivisionError), watch_of(server):
            raise ZeroDivisionError
        assert not [thread for thread in threading.enumerate() if thread.name == "watch"]
