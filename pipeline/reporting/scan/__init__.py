"""The report of one scan."""
