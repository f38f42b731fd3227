"""Whole models in single files, under the names that their makers gave the tensors."""
