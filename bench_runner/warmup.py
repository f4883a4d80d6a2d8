"""Warm-up: whole batches of the run's own shape, thrown away until the engine is steady.

Of an engine that is held up for several bursts, the first burst of a workload warms until it is steady. A later one
goes on from there: its first batch is held against the last of the burst before, so that one is enough where the engine
stayed as it was. It is sent all the same, for a card's clocks fall while nothing is asked of it.
"""

from __future__ import annotations

from bench_runner.batch import Batch, facts_of, raise_early_end
from bench_runner.measure.summary import summarise
from bench_runner.outcome import Notebook
from engines.target import HeldServer

#: Two warm-up batches in a row that differ by no more end an automatic warm-up …
WARM_AGREEMENT = 0.02
#: … which never takes more than so many.
MOST_WARMUP_BATCHES = 8


def warm_up(batch: Batch, notebook: Notebook, held: HeldServer | None = None) -> None:
    """Throw batches away until two in a row agree, or as many as the workload says. The simulated engine is warm.

    Args:
        batch: the run's.
        notebook: keeps the batches' rates.
        held: what kept the engine up since it was warm, if anything did; a later burst of it sends one batch where the
            workload says how many.
    """
    workload = batch.spec.workload
    wanted = workload.warmup_batches
    if wanted == "auto" and batch.target.facts.simulated:
        notebook.notes.append("no warm-up: the simulated engine compiles nothing and has no clocks to raise")
        return
    warmed = {} if held is None else held.warmed
    before = warmed.get(workload.name)
    if wanted != "auto" and workload.name in warmed:
        wanted = min(wanted, 1)
    rates = notebook.warmup_output_tokens_per_s
    while len(rates) < (MOST_WARMUP_BATCHES if wanted == "auto" else wanted):
        drawn = batch.draw(f"warmup-{len(rates)}")
        with batch.send(drawn) as outcome:
            records = [record for record, _ in batch.decode(drawn, outcome)]
        raise_early_end(outcome)
        summary, _ = summarise(records, facts_of(batch.spec, outcome, drawn, sent=len(records)))
        rates.append(summary["output_tokens_per_s"])
        if not summary["successes"]:
            notebook.notes.append(f"warm-up given up: every request of batch {len(rates)} failed")
            return
        warmed[workload.name] = rates[-1]
        if wanted == "auto" and _agree([before, *rates]):
            return
    if wanted == "auto":
        notebook.notes.append(
            f"not warm: after {len(rates)} batches two in a row still differ by more than {WARM_AGREEMENT:.0%}"
        )


def _agree(rates: list[float | None]) -> bool:
    if len(rates) < 2 or not rates[-1] or not rates[-2]:
        return False
    return abs(rates[-1] - rates[-2]) <= WARM_AGREEMENT * max(rates[-1], rates[-2])
