"""An OpenAI-compatible server on loopback that fails on demand. See `server`."""
