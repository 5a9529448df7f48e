"""The small model: its inputs and targets, its training, its predictions and explanations."""
