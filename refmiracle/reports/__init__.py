"""Layer 4: one HTML page about one run (extra ``report``)."""
