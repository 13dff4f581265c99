"""What keeps the repository: no part of the package."""
