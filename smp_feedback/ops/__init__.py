"""Functions of tensors, and nothing else."""
