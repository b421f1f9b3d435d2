"""Pictures and pages made from arrays and tables."""
