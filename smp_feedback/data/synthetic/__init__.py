"""Drawn data."""
