"""A trained model on the test images: python -m core.evaluate."""
