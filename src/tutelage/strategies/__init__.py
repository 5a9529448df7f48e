"""Ways to ask a teacher for a rationale: each file holds one prompt and its parser."""
