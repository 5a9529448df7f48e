"""The student: a small model, what it is to write, how it learns and how it is read."""
