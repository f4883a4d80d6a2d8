"""The schema's history. `services.store.database.migrate` brings a database to its head."""
