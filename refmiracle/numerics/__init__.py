"""Layer 0: Philox words, the normal quantile and s(x), in plain NumPy and float64."""
