"""Slurm, in two ways: the steps of a run as jobs (`plugin`), and an array of people (`array`)."""
