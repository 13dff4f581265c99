"""Does a state that is carried from frame to frame help on these films? One look a frame beside its rivals."""
