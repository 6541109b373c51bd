"""What is wrong with an experiment's records, and how it is mended."""
