"""Layer 4: data, the training loop, progressive encoding, checkpoints."""
