"""Which model is champion, what replaces it, and when."""
