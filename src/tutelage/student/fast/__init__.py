"""What is only about speed on a CPU, behind one switch (`fast: auto` or `off`): see `parts`."""
