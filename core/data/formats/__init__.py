"""The formats of data sets, a file each."""
