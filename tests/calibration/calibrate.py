"""`make calibrate`: the client's records against the simulated engine's own truth, at rising load.

Both run on this host and share its cores, so the table shows what the client is worth *here*, beside such a server. The
simulated engine keeps its own stamps by the kernel's clock; its log is the truth.
"""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from engines.simulated.start import simulated_engine
from tests.calibration.truth import drive_simulated, join, middle_and_tail

STREAMS = (1, 10, 50, 100, 200, 400)
#: The truth log must hold every request of a step.
KEEP = 10_000


def main() -> int:
    """Print the table; 1 where a step lost a request or a token."""
    table = Table(title="Error of the records against the truth (burst, 128 in / 128 out, simulated vLLM)")
    for heading in ("streams", "TTFT p50 true\nms", "TTFT p50\nms", "TTFT error p50\nms", "TTFT error p99\nms",
                    "event error p50\nms", "event error p99\nms", "tokens true", "tokens", "client lag max\nms",
                    "validity"):  # fmt: skip
        table.add_column(heading, justify="right")
    good = True
    with simulated_engine("vllm-mistral-7b", truth_keep=KEEP) as server:
        for streams in STREAMS:
            seen = len(server.truth())
            outcome = drive_simulated(server, requests=streams)
            pairs = join(outcome.records, server.truth(since=seen))
            ttft_p50, ttft_p99 = middle_and_tail([pair.ttft_error_s for pair in pairs])
            event_p50, event_p99 = middle_and_tail([e for pair in pairs for e in pair.token_errors_s])
            true_tokens = sum(pair.truth["generated_tokens"] for pair in pairs)
            tokens = outcome.result.summary["total_output_tokens"]
            lag = max(record.client_lag_s or 0.0 for record in outcome.records)
            good &= tokens == true_tokens == streams * 128
            true_p50, _ = middle_and_tail([pair.true_ttft_s for pair in pairs])
            table.add_row(
                str(streams),
                f"{true_p50 * 1e3:.2f}",
                f"{outcome.result.summary['ttft_s']['p50'] * 1e3:.2f}",
                f"{ttft_p50 * 1e3:.3f}",
                f"{ttft_p99 * 1e3:.3f}",
                f"{event_p50 * 1e3:.3f}",
                f"{event_p99 * 1e3:.3f}",
                str(true_tokens),
                str(tokens),
                f"{lag * 1e3:.2f}",
                outcome.result.validity.state,
            )
    Console(width=150).print(table)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
