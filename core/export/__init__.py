"""A trained network as others load it."""
