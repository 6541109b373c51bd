"""Data sets: labelled images, and the formats that they come in."""
