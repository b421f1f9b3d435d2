"""Resting-state functional series, from the volumes to connectivity maps."""
