"""Reports for people: figures, scan report, study report."""
