"""The page that compares losses."""
