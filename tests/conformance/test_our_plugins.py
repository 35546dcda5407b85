"""The kit that plugin authors run, on our own plugins."""

from typing import ClassVar

from accel.testing.conformance import PluginConformance


class TestSophon(PluginConformance):
    package = "accel-sophon"


class TestHorizon(PluginConformance):
    package = "accel-horizon"


class TestMlu(PluginConformance):
    package = "accel-mlu"
    expected_failures: ClassVar = {"test_toolchains_and_hints": "cambricon-pytorch is not declared yet"}
