"""Training one student: the loss, the loop, checkpoints, several processes."""
