"""The parts of six that pycaffe uses, for Python 3."""


def iteritems(mapping):
    return iter(mapping.items())


def itervalues(mapping):
    return iter(mapping.values())


next = next
