"""What a step computes: plain typed functions on arrays and tables; no files, no Nipype."""
