"""One command for a machine with a GPU: is every kernel right there, and how fast? See __main__.py."""
