"""Running work: steps, jobs, processes, locks, notices, the console."""
