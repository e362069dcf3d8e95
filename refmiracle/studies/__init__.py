"""The paper's experiments, each a set of runs and what they show."""
