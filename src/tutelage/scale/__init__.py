"""Many workers on one or many machines, by Ray Data: the same engine, the same rows, one budget."""
