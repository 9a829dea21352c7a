"""foldsmith: from an image-classification competition folder to a submission that can be trusted."""

# Every stamp records it, so that output of an older version is stale. Raise it with every change that alters
# a number in a run's files (tests/test_version.py).
__version__ = "0.4.2"
