"""The gate, shift, and a model's performance over time."""
