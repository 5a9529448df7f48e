"""One client per kind of teacher: each makes one attempt at one request."""
