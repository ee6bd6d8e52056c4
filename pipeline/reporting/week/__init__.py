"""The page of a week of answered scans."""
