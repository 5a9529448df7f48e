"""Where examples come from (`load`, `synthetic`) and how they are divided (`split`)."""
