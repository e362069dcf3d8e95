"""Layer 2: relative entropy coding: a sample of Q as an index into shared randomness."""
