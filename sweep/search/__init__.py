"""What to train next, and together with what."""
