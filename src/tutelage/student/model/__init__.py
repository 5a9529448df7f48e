"""Loading a student: pretrained or new weights, adapters, precision."""
