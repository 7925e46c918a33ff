"""Pictures read as their files store them: TIFF, and PNG or JPEG 2000 of more than 8 bits."""
