"""Which files belong together, to which split, and what is left out."""
