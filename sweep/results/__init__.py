"""The trials in order of merit, and what they teach."""
