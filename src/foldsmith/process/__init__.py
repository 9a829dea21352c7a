"""What a process needs of its machine: exit status, signals, devices, terminal, locks, files."""
