"""A night's work by one command: a plan by measured speeds, steps that must earn their place, an answer."""
