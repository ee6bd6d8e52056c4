"""What a reader answers, and what readers have answered: the form, the list of reports, agreement."""
