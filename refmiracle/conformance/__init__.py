"""Layer 6: the golden conformance suite, for our engines and for everybody's backends.

``python -m refmiracle.conformance --backend module:object`` runs the vectors of ``data/golden``
against a backend, stage by stage in the order of the flow, so that the first red stage is the
cause.  docs/CONFORMANCE.md walks through writing a backend.
"""
