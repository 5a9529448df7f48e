"""Before a run: what it costs, what it can detect, and whether everything is in place."""
