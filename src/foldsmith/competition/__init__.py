"""A competition folder: its images, its labels in every supported format, and its submission format."""
