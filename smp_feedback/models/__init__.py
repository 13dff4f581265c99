"""Base models: found by name, built, and closed into a loop."""
