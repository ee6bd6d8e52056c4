"""The report of an ingest."""
