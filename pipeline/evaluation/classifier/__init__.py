"""Choosing a calibrator, building a classifier, judging it on test scans."""
