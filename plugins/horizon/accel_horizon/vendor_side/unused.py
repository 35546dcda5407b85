"""Stand-ins for packages that hmct and its tools import at their start and use for plots and picture readers only.

Loading them for real costs a third of the time a small network takes to compile.
"""

import sys
import types

_UNUSED = (
    "matplotlib",
    "matplotlib.pyplot",
    "matplotlib.figure",
    "skimage",
    "skimage.color",
    "skimage.io",
    "skimage.transform",
)


class _Unused:
    """A name of an unused package: importing it works, using it says what is wrong."""

    def __init__(self, name):
        self._name = name

    def __call__(self, *_arguments, **_options):
        raise RuntimeError("accel left out " + self._name + ", which this step was not expected to use")


def leave_out():
    """Put the stand-ins in place; before the first import of hmct."""
    for name in _UNUSED:
        module = types.ModuleType(name)
        module.__path__ = []
        module.__getattr__ = lambda attribute, name=name: _missing(name, attribute)
        sys.modules[name] = module
    sys.modules["matplotlib"].use = lambda *_arguments, **_options: None  # called as hmct loads


def _missing(module, attribute):
    if attribute.startswith("__"):
        raise AttributeError(attribute)
    return sys.modules.get(module + "." + attribute) or _Unused(module + "." + attribute)
