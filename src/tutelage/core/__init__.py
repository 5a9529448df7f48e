"""What every other part uses: errors, types, the task, files, progress."""
