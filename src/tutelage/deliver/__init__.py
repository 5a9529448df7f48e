"""After a run: a trained student in use."""
