"""Image files as tensors: whole, upright, in [0, 1]."""
