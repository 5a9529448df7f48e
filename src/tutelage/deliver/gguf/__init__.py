"""GGUF files of decoder-only students, for llama.cpp and Ollama."""
