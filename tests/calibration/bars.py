"""What is asked of the client, on a machine with a core for it and a core for the server. Named once."""

from __future__ import annotations

#: p99 of the error of TTFT against the recorded truth, in the clear and over TLS
MOST_TTFT_ERROR_S = 0.000_2
MOST_TLS_TTFT_ERROR_S = 0.000_3
#: p99 of the error of token stamps, and of the gaps between them
MOST_EVENT_ERROR_S = 0.000_1
#: p99 of a Poisson request's arrival after the moment it was due
MOST_LATE_S = 0.001
#: a run of one request, from the command to its end
MOST_START_S = 1.0
MOST_PEAK_BYTES = 120_000_000
