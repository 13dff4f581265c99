"""What each part of the restoration loop brings."""
