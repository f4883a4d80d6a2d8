"""MANY RUNS: asked for, queued, kept, compared, shown."""
