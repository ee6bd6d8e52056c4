"""Comparing losses over seeds and folds."""
