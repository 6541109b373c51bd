"""A group of trials in training."""
