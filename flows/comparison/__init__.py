"""A comparison of losses: its cells, its progress, its pages."""
