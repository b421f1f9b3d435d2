"""Distortion of echo-planar images along their phase encoding, and how it is undone."""
