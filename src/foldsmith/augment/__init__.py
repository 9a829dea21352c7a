"""Augmentation of training images: rows of our own and albumentations pipelines, on host and device."""
