"""Prefect flows and the command line: order, retries, caching. No arithmetic."""
