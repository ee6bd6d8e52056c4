"""What an ingest does to each scan, and the tables it writes."""
