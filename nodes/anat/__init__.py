"""The T1-weighted image: brain, bias, tissues, normalisation, regional volumes."""
