"""Layer 3: the .rmc file: its bytes, and the model that they describe."""
