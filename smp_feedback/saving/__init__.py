"""To disk, to the hub, and back: nothing half-written, nothing half-loaded, and no code from a checkpoint."""
