"""Published figures with their sources, as data: `published.json`, read by `published`."""
