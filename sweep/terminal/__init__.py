"""What a sweep shows on the screen."""
