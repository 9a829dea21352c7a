"""Training a fold: steps, epochs, rounds, networks, optimizer, schedule, mixing, checkpoints."""
