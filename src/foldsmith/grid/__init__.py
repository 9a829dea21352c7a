"""Many runs of one competition: on this machine, on a Ray cluster, or by Slurm."""
