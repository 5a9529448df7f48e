"""The model of a student: loading, new weights, adapters, precision."""
