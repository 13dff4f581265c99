"""Corruptions of images, and datasets seen through them."""
