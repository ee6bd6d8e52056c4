"""What happens to a scan, in order; knows nothing of Prefect."""
