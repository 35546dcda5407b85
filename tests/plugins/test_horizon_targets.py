"""Horizon's chips as data."""

from __future__ import annotations

import pytest
from accel.errors import AccelError
from accel.plugins import Registry


@pytest.mark.parametrize(
    ("name", "march", "precisions"),
    [
        ("x3", "bernoulli2", ["int8"]),
        ("j3", "bernoulli2", ["int8"]),
        ("j5", "bayes", ["int8", "int16"]),
        ("x5", "bayes-e", ["int8", "int16"]),
    ],
)
def test_chip_is_found_by_entry_point(name: str, march: str, precisions: list[str]) -> None:
    target = Registry().target(name)
    assert target.name == name
    assert target.arch == march
    assert list(target.numerics) == precisions
    assert target.max_opset == 11
    for figure in target.peaks.values():
        assert figure.source and figure.unit == "op/s"


def test_no_int16_on_bernoulli2() -> None:
    with pytest.raises(AccelError) as caught:
        Registry().target("x3").numerics_for("int16")
    assert caught.value.code == "unsupported.precision"
    assert "int8" in caught.value.hints[0]
