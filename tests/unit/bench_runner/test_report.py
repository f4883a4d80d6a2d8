"""A RunResult as a person reads it."""

from __future__ import annotations

import pytest

from bench_runner.report import print_report, to_text
from engines.contract import FailureKind
from tests.fakes.records import make_record
from tests.fakes.results import make_result


def row(text: str, start: str) -> list[str]:
    return next(line for line in text.splitlines() if line.split()[:1] == [start]).split()


def test_a_valid_run() -> None:
    text = to_text(make_result(took_ms=1000))
    assert "vllm 0.32.0 · mistralai/Mistral-7B-Instruct-v0.2 · tiny · A100-80GB · BF16" in text
    assert "VALID" in text.splitlines()[1]
    assert "SIMULATED" not in text
    assert "requests 10, successes 10\n" in text
    assert "output tokens 30 (counted by: usage; planned 30, engine 30, local –)" in text
    assert row(text, "duration") == ["duration", "1.000", "s"]
    assert row(text, "output_tokens_per_s") == ["output_tokens_per_s", "30.00", "tokens/s"]
    assert row(text, "failure_rate") == ["failure_rate", "0.0", "%"]
    assert row(text, "ttft")[:4] == ["ttft", "ms", "10", "100.0"]
    assert "described, not claimed" in text


def test_a_token_s_energy_is_shown_where_it_is_known() -> None:
    result = make_result()
    assert "joules" not in to_text(result)
    result["summary"] |= {"joules_per_output_token": 0.028444, "output_tokens_per_s_per_w": 35.157}
    text = to_text(result)
    assert row(text, "joules_per_output_token") == ["joules_per_output_token", "0.0284", "J/token"]
    assert row(text, "output_tokens_per_s_per_w") == ["output_tokens_per_s_per_w", "35.16", "tokens/s/W"]


def test_long_latencies_are_in_seconds() -> None:
    text = to_text(make_result(took_ms=20_000))
    assert row(text, "e2e")[:4] == ["e2e", "s", "10", "20.00"]
    assert row(text, "ttft")[:4] == ["ttft", "ms", "10", "2,000"]


def test_a_narrow_terminal_folds_words_and_cuts_no_figure() -> None:
    wide, narrow = (to_text(make_result(took_ms=9000), width=width) for width in (200, 80))
    assert row(wide, "e2e") == row(narrow, "e2e")
    assert "…" not in narrow


def test_simulated_is_marked() -> None:
    text = to_text(make_result(simulated=True))
    assert text.startswith("SIMULATED: not a measurement of a real engine\n")
    assert row(text, "roofline_ratio")[2:] == ["%", "(an", "input", "of", "the", "simulation)"]
    assert row(to_text(make_result()), "roofline_ratio")[2:] == ["%"]


def test_failures_and_reasons_are_in_words() -> None:
    failed = [make_record(k, events_ms=(), failure=FailureKind.REJECTED) for k in range(2)]
    result = make_result([*failed, *(make_record(k) for k in range(2, 10))])
    text = to_text(result, width=200)
    assert "INVALID" in text
    assert "invalid: 2 of 10 requests failed (20.0%): 2 rejected" in text
    assert "[failures]" in text
    assert "requests 10, successes 8, failed: 2 rejected" in text


def test_a_run_without_a_success_shows_no_latencies_and_no_zeros() -> None:
    text = to_text(make_result([make_record(0, events_ms=(), failure=FailureKind.CONNECT)]), width=200)
    assert "none of 1 requests succeeded" in text
    assert "output tokens – (counted by: nobody" in text
    assert "tokens_per_s" not in text
    assert "ttft" not in text


def test_a_run_that_measured_nothing_says_why() -> None:
    result = make_result([]) | {"summary": {}, "outcome": "failed", "error": "connection refused", "notes": ["a note"]}
    text = to_text(result)
    assert "failed: connection refused" in text
    assert "note: a note" in text


def test_what_an_engine_wrote_cannot_steer_the_terminal() -> None:
    result = make_result() | {"outcome": "failed", "error": "\x1b[2J[bold]gone[/bold]\x07"}
    text = to_text(result)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold]gone[/bold]" in text


def test_the_end_of_the_engine_s_log_is_shown_and_more_of_it_where_a_run_is_not_valid() -> None:
    log = "\n".join(f"line {number}" for number in range(30))
    good = make_result()
    assert "log" not in to_text(good)
    text = to_text({**good, "environment": {**good["environment"], "engine_log": log}})
    assert "the end of the engine's log, the last 3 of 30 lines that are kept:\n  line 27\n  line 28\n" in text
    bad = make_result([make_record(0, events_ms=(), failure=FailureKind.CONNECT)])
    text = to_text({**bad, "environment": {**bad["environment"], "engine_log": log + "\nout of \x1b[2J memory"}})
    assert "\n  line 11\n" in text
    assert "line 10\n" not in text
    assert "out of \ufffd[2J memory" in text


def test_claimed_percentiles_have_no_mark() -> None:
    records = [make_record(k) for k in range(500)]
    looped = make_result(records, workload={"arrival": {"kind": "closed_loop", "concurrency": 4}})
    assert "*" not in to_text(looped)
    assert "p99.9" not in to_text(looped)


def test_the_thousandth_is_shown_where_it_is_claimed() -> None:
    records = [make_record(k) for k in range(4603)]
    text = to_text(make_result(records, workload={"arrival": {"kind": "closed_loop", "concurrency": 4}}))
    assert "p99.9" in text
    assert "*" not in text


def test_the_window_says_what_of_the_run_was_measured() -> None:
    whole = make_result()
    window = {"ramp_up_s": 5.0, "length_s": 30.0, "drain_s": 5.0, "left_out_requests": 1200, "left_out_failures": 3}
    text = to_text({**whole, "summary": {**whole["summary"], "window": window}}, width=200)
    assert "window 5.00 to 35.00 s (75.0% of the run): 5.00 s of ramp-up before it, 5.00 s of drain after it\n" in text
    assert "sent outside it, so in no count and no latency: 1,200 requests, 3 of them failed\n" in text
    kept = {**window, "left_out_requests": 0, "left_out_failures": 0}
    assert "sent outside" not in to_text({**whole, "summary": {**whole["summary"], "window": kept}}, width=200)
    assert "ramp-up" not in to_text(whole)


def test_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(make_result())
    assert "duration" in capsys.readouterr().out


def test_the_client_s_own_error_stands_below_the_figures() -> None:
    error = {"n": 100, "bias_s": 6e-6, "noise_floor_s": 2.4e-5}
    calibration = {"ttft": error, "event": error, "below_noise_floor": [], "spread_below_noise_floor": ["tpot_s"]}
    text = to_text({**make_result(), "calibration": calibration}, width=200)
    assert "a known answer: TTFT 0.024 ms (median +0.006), token events 0.024 ms (median +0.006)\n" in text
    assert "spread below the client's own error, so not claimed: tpot_s" in text
    assert "median below" not in text
    assert "own error" not in to_text(make_result())


def test_the_servers_own_figures_stand_beside_the_clients() -> None:
    result = make_result()
    assert "as the server has it" not in to_text(result)
    server = {"ttft_mean_s": 0.0123456, "ttft_requests": 100, "queue_mean_s": 0.00021, "queue_requests": 100}
    server |= {"kv_cache_usage_mean_ratio": 0.125, "kv_cache_usage_max_ratio": 0.2}
    server |= {"prefix_cache_queried_tokens": 12800, "prefix_cache_hit_tokens": 0, "preemptions": 2}
    text = to_text(result | {"telemetry": {"server": server}})
    assert (
        "as the server has it: time to first token 12.35 ms (mean of 100), queue time 0.21 ms (mean of 100), KV cache "
        "12.5% full on average and 20.0% at most, prefix cache had 0 of the 12,800 tokens looked up, preemptions 2"
    ) in " ".join(text.split())


def test_what_the_server_does_not_tell_is_named_and_no_0() -> None:
    names = ["ttft_mean_s", "ttft_requests", "kv_cache_usage_mean_ratio", "kv_cache_usage_max_ratio"]
    names += ["prefix_cache_queried_tokens", "prefix_cache_hit_tokens", "preemptions"]
    server = dict.fromkeys(names) | {"queue_mean_s": 0.5, "queue_requests": 3}
    text = " ".join(to_text(make_result() | {"telemetry": {"server": server}}).split())
    assert "as the server has it: queue time 500.00 ms (mean of 3); not told: time to first token, KV cache, " in text
    assert "not told: time to first token, KV cache, prefix cache, preemptions" in text
    server |= {"queue_mean_s": None, "queue_requests": 0}
    assert "as the server has it: queue time – (mean of 0);" in to_text(
        make_result() | {"telemetry": {"server": server}}
    )
    assert "as the server" not in to_text(make_result() | {"telemetry": {"cards": {}}})
