"""Magnetic resonance spectroscopy: results of LCModel, and the place of the voxel."""
