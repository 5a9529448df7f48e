"""Ways to ask a teacher for a rationale: prompt and parser side by side, one strategy a file."""
