"""foldsmith: from an image-classification competition folder to a submission that can be trusted."""

__version__ = "0.1.0"
