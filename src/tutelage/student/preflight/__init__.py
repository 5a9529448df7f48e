"""The preflight: a student is examined on a recipe's own longest rows before it is trained."""
