"""The conformance suite: what every engine must do, over real sockets against its simulator.

The scenarios are written once (`test_*.py`). Each engine has one `Adapter`, which says how its
simulator is made to do something. `Capabilities` say what an engine can do; the suite proves that
they are true, in both directions.
"""
