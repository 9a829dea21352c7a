"""A competition's folder: its images, labels of every form, and the form of its submission."""
