"""One experiment from end to end. `run.py` is the file to read first."""
