"""Diffusion-weighted images, from the series to measures of tracts."""
