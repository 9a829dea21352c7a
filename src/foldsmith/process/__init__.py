"""A process and its machine: exit status, signals, devices, terminal, locks, files."""
