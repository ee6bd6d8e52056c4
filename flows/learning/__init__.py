"""From a cohort to a registered classifier."""
