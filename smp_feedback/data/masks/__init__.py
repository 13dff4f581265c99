"""Mask files as class indices, whatever their values, colours or palettes are."""
