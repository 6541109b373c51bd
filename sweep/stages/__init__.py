"""Drives a stage from its plan to its records."""
