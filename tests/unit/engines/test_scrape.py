"""An engine's own metrics under canonical names. What is absent stays absent."""

from __future__ import annotations

import re
from pathlib import Path

from engines.scrape import info_labels, read_metrics
from engines.vllm import VLLM

RECORDINGS = Path(__file__).parents[2] / "recordings"

TEXT = """\
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{model_name="a",engine="0"} 100.0
vllm:prompt_tokens_total{model_name="b",engine="0"} 23.0
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="a"} 0.0
# TYPE tgi_request_generated_tokens histogram
tgi_request_generated_tokens_bucket{le="16"} 2
tgi_request_generated_tokens_bucket{le="+Inf"} 3
tgi_request_generated_tokens_sum 384
tgi_request_generated_tokens_count 3
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",enable_prefix_caching="False"} 1.0
# TYPE odd gauge
odd NaN
"""


def test_samples_are_summed_over_their_label_sets() -> None:
    assert read_metrics(TEXT, {"prompt_tokens_total": "vllm:prompt_tokens_total"}) == {"prompt_tokens_total": 123.0}


def test_a_counter_is_found_without_its_ending() -> None:
    assert read_metrics(TEXT, {"prompts": "vllm:prompt_tokens"}) == {"prompts": 123.0}


def test_a_histograms_sum_is_a_sample_like_any_other() -> None:
    names = {"generation_tokens_total": "tgi_request_generated_tokens_sum"}
    assert read_metrics(TEXT, names) == {"generation_tokens_total": 384.0}


def test_zero_is_a_value_and_absence_is_not() -> None:
    names = {"requests_running": "vllm:num_requests_running", "requests_waiting": "vllm:num_requests_waiting"}
    assert read_metrics(TEXT, names) == {"requests_running": 0.0}


def test_a_value_that_is_no_number_is_absent() -> None:
    assert read_metrics(TEXT, {"odd": "odd"}) == {}


def test_a_page_that_is_no_exposition_has_no_metrics() -> None:
    assert read_metrics("<html><body>404</body></html>", {"a": "a"}) == {}
    assert read_metrics("", {"a": "a"}) == {}


def test_settings_are_the_labels_of_an_info_metric() -> None:
    assert info_labels(TEXT, "_config_info") == {"block_size": "16", "enable_prefix_caching": "False"}
    assert info_labels(TEXT, "_nothing") == {}


def test_every_vllm_name_is_one_that_a_newer_vllm_has_too() -> None:
    lines = (RECORDINGS / "vllm-0.33.0-metrics.txt").read_text().splitlines()
    names = {line.partition('"')[2].rstrip('"') for line in lines}
    ours = {re.sub("_(total|sum|count)$", "", name) for name in VLLM.metric_names.values() if name.startswith("vllm:")}
    assert ours - names == set()


def test_labels_may_hold_any_sign() -> None:
    text = 'a{m="x}\\" y\\\\",n="{"} 2\na{m=""} 3 1700000000000\na 4e0\nab 9\n a 9\nb_info{path="c:\\\\d\\ne"} 1\n'
    assert read_metrics(text, {"a": "a"}) == {"a": 9.0}
    assert info_labels(text, "_info") == {"path": "c:\\d\ne"}


def test_a_broken_line_is_left_out() -> None:
    assert read_metrics('a{m="x} 1\na one\na{m="y"} 2\na', {"a": "a"}) == {"a": 2.0}
    assert read_metrics("a 1\n", {}) == {}
