"""An experiment file, read and checked."""
