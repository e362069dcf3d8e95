"""Layer 2: networks as short lists of layers, over any engine."""
