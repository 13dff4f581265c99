"""Asking every model whether it works: which there are, each in a process of its own, and the page that says it."""
