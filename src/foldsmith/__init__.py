"""foldsmith: from an image-classification competition folder to a submission that can be trusted."""

# Every stamp holds it: what an older version made is not taken for what this one would make. It goes up with
# every change of a number that a run holds (tests/test_version.py).
__version__ = "0.2.0"
