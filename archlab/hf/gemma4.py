"""Gemma 4: E2B, E4B, 12B (unified), 26B-A4B and 31B."""
