"""Layer 4: the float32 weights of a .rmc file in the formats of other libraries."""
