"""The restoration loop: the image restored between two looks."""
