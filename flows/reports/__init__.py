"""Reports and predictions of scans; reports of a study."""
