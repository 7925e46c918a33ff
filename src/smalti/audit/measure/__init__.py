"""What one image is: read once, without any other image."""
