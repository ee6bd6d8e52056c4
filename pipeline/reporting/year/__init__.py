"""The page of a simulated year."""
