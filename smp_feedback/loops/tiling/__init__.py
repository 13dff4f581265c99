"""Large images in overlapping windows: what is found in each becomes one map."""
