"""The score loop: a prediction refined along an estimated score."""
