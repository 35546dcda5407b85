"""Discovery: the three vendor packages are found, nothing of theirs is imported."""

from accel.plugins import Registry


def test_vendor_plugins_are_found_from_metadata() -> None:
    assert {o.name for o in Registry().origins("accel.plugins")} >= {"sophon", "horizon", "mlu"}
