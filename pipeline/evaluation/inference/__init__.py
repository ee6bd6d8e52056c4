"""Intervals and tests over subjects."""
