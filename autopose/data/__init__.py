"""From annotation files and images to training samples."""
