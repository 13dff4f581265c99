"""The repair loop: a trained model's mask, mended by a local rule that is repeated."""
