"""Where groups train."""
