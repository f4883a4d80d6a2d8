"""The dashboards as typed Python; `python -m dashboards.generate` writes them as JSON."""
