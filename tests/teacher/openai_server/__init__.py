"""An OpenAI-compatible server on loopback that misbehaves as it is told to. See `server`."""
