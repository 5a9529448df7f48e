"""One experiment from end to end: `run` is the file to read first."""
