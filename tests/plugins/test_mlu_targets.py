"""MLU targets: complete plain data, aliases, and refusals with their reason."""

import pytest
from accel.errors import AccelError
from accel.plugins import Registry

NAMES = ("mlu220", "mlu270", "mlu290", "mlu370-s4", "mlu370-x4", "mlu370-x8", "ce3226", "mlu590")
FIXED = ("qint8_mixed_float16", "qint8_mixed_float32", "qint16_mixed_float16", "qint16_mixed_float32")


@pytest.mark.parametrize("name", NAMES)
def test_target_is_listed_and_complete(name: str) -> None:
    target = Registry().target(name)
    assert (target.name, target.vendor) == (name, "mlu")
    assert target.default_precision == "qint8_mixed_float16"
    assert set(FIXED) <= set(target.numerics)
    for precision, numerics in target.numerics.items():
        assert numerics.precision == precision
        assert target.support[precision]["build"] == "contract-only"
        assert numerics.dataflow == "inputs" or not numerics.quantized
    assert all(figure.unit == "op/s" and figure.source for figure in target.peaks.values())


def test_mlu370_has_six_modes_and_the_short_words() -> None:
    target = Registry().target("mlu370")
    assert target.name == "mlu370-s4"
    assert set(target.numerics) == {*FIXED, "force_float16", "force_float32"}
    short = {word: target.numerics_for(word).precision for word in ("fp32", "fp16", "int8", "int16")}
    assert short == {
        "fp32": "force_float32",
        "fp16": "force_float16",
        "int8": "qint8_mixed_float16",
        "int16": "qint16_mixed_float16",
    }


@pytest.mark.parametrize("name", ["mlu220", "mlu270", "mlu290"])
@pytest.mark.parametrize("precision", ["fp32", "force_float16"])
def test_mlu200_refuses_float_with_the_reason(name: str, precision: str) -> None:
    with pytest.raises(AccelError) as caught:
        Registry().target(name).numerics_for(precision)
    assert caught.value.code == "unsupported.precision"
    assert "fixed point only" in caught.value.cause


def test_published_figures() -> None:
    registry = Registry()
    assert registry.target("mlu370-x4").peaks["int8"].value == 256e12
    assert registry.target("mlu270").peaks["int16"].value == 64e12
    bandwidth = registry.target("mlu370-s4").dram_bandwidth
    assert bandwidth is not None and bandwidth.value == 307.2e9
    assert registry.target("mlu590").peaks == {}
