"""Numerics of the sweep: a CNN and its trainer in which the trials of a group are one array axis."""
