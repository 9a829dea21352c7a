"""What a target is, from the label file to the submission."""
