"""Makes many requests at once: attempts, retries, rate limits and interruptions."""
