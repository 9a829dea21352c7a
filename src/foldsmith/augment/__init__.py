"""What may be done to training images: rows of our own and albumentations, on the host and on the device."""
