"""Files: each interface reads, calls one node function or program, and writes."""
