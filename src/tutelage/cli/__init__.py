"""The command line: one file a command. Each parses, calls one stage and prints."""
