"""Use a trained student after a run."""
