"""Code that only makes students faster, behind one switch (`fast: auto` or `off`); see `parts`."""
