"""The MixVarGENet example: its layout and its ONNX form."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "mixvargenet"


@pytest.fixture(autouse=True)
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("layout", "make", "digits", "train"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_layout() -> None:
    from layout import convolutions, mixvargenet

    made = list(convolutions(mixvargenet()))
    by_name = {c.name: c for c in made}
    assert np.prod([c.stride for c in made if c.name == "stem" or c.name.endswith("_0_wide")]) == 32
    assert by_name["stage2_1_wide"].outputs == 128  # factor 4
    assert by_name["stage4_1_wide"].groups == 6  # 96 channels in groups of 16
    assert by_name["stage1_0_point"].shortcut == "stem"
    assert sum(c.name.startswith("stage4") for c in made) == 2 * 7 + 1


def test_optional_layers() -> None:
    from layout import convolutions, mixvargenet

    plain = mixvargenet()
    rich = replace(plain, stages=(*plain.stages[:4], replace(plain.stages[4], downsamples=1, fusion=True)))
    added = [c for c in convolutions(rich) if c not in set(convolutions(plain))]
    assert [(c.size, c.stride) for c in added[:2]] == [(1, 1), (3, 2)]


def test_onnx_runs_with_even_activations() -> None:
    import make
    from layout import mixvargenet

    proto = make.build(mixvargenet(classes=10, head=64), size=64)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    answers = session.run(None, {"input": np.random.default_rng(1).standard_normal((2, 3, 64, 64), np.float32)})[0]
    assert answers.shape == (2, 10)
    assert 0.01 < np.abs(answers).max() < 100


def test_digits_split_keeps_evaluation_apart() -> None:
    from digits import split

    parts = split()
    assert not set(parts["evaluation"]) & set(parts["train"])
    assert set(parts["calibration"]) <= set(parts["train"])
