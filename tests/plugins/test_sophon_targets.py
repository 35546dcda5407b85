"""Sophon's chips as the driver sees them."""

from __future__ import annotations

import pytest
from accel.errors import AccelError
from accel.plugins import Registry


def test_every_chip_is_listed_and_loads() -> None:
    registry = Registry()
    for name in ("bm1682", "bm1684", "bm1684x", "bm1688", "cv186x"):
        target = registry.target(name)
        assert target.name == name and target.vendor == "sophon"
        assert all(numerics.precision == key for key, numerics in target.numerics.items())
        assert set(target.peaks) == set(target.numerics)
    assert registry.target("cv186ah").name == "cv186x"


def test_bm1684_has_what_the_chip_has() -> None:
    target = Registry().target("bm1684")
    assert target.default_precision == "int8"
    int8 = target.numerics_for("i8")
    assert int8.activation is not None and int8.activation.unsigned
    with pytest.raises(AccelError, match="no precision 'fp16'"):
        target.numerics_for("fp16")


def test_bm1682_has_no_compiler() -> None:
    target = Registry().target("bm1682")
    assert target.toolchain == "" and target.support == {} and list(target.numerics) == ["fp32"]
