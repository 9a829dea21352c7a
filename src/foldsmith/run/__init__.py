"""A run on disk: command line, file names, identity, stamps, tables."""
