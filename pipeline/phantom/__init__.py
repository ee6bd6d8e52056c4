"""A synthetic AV1451 cohort whose true posterior is known."""
