"""One file that runs without this package: traced, written, opened again, and compared before it counts."""
