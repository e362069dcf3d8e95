"""Layer 2: coded variables, their blocks, and the two parameterizations of their posterior."""
