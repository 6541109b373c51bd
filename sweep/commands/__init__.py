"""The commands of python -m sweep, a file each."""
