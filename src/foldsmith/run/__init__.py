"""What a run is on disk: command line, file names, stamps, tables."""
