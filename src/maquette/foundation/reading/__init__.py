"""The doors through which files come in: regular files of a bounded size, as text, JSON or pictures.

Weights have theirs in `foundation.weights`. Nothing else opens what a user gives; a test reads the source for it.
"""
