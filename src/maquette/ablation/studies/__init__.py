"""The studies: each a question, the cells that answer it, and its tables."""
