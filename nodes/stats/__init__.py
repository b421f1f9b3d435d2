"""Cohort tables and linear models."""
