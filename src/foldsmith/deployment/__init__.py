"""Carrying a run elsewhere: new images, bundles, exported models."""
