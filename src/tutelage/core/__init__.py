"""Errors, types, tasks, results, files and progress, which every other package uses."""
