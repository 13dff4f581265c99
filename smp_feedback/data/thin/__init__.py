"""Published datasets of thin structures, in the layouts in which their authors give them out."""
