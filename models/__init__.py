"""Losses, networks, calibrators and the calibrated classifier: torch and numpy only."""
