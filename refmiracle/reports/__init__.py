"""Layer 6: one HTML page about one run (extra ``report``)."""
