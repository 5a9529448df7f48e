"""Load, generate, describe and split labelled examples."""
