"""For authors of plugins: the conformance kit and the small networks it runs.

In your tests::

    from accel.testing.conformance import PluginConformance

    class TestAcme(PluginConformance):
        package = "accel-acme"

pytest then runs every check on every target and precision of that package. Known gaps are named with
a reason: ``expected_failures = {"test_reference_round_trip[acme1-int4]": "no int4 kernels yet"}``.
"""
