"""Wiring: builders of Nipype workflows, settings, outputs and execution."""
