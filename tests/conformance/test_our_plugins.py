"""The kit that plugin authors run, on our own plugins."""

from accel.testing.conformance import PluginConformance


class TestSophon(PluginConformance):
    package = "accel-sophon"


class TestHorizon(PluginConformance):
    package = "accel-horizon"


class TestMlu(PluginConformance):
    package = "accel-mlu"
