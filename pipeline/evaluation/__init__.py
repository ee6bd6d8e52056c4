"""Metrics, calibrator selection, decisions and comparisons."""
