"""Teach a small language model with a large one's explanations, and find out whether it helped."""
