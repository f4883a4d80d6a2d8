"""ONE RUN: plan, load, measure. Knows time and statistics, no web and no database."""
