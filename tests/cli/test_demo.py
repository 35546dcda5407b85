"""The demo on its real weights and photos."""

import pytest


@pytest.mark.slow
def test_demo_compares_three_chips_with_float(cli, tmp_path) -> None:
    done = cli.json("demo", "-o", tmp_path)
    assert done.code == 0, done.data
    rows = {r["target"]: r for r in done.data["rows"]}
    assert list(rows) == ["float", "bm1684", "j5", "mlu370-s4"]
    assert rows["float"]["top1"] >= 0.85
    assert rows["j5"]["cosine"] > 0.98 and rows["mlu370-s4"]["cosine"] > 0.98
    assert rows["bm1684"]["cosine"] > 0.6  # one shift a convolution: depthwise networks suffer there
    assert all(r["top5"] >= 0.8 for r in rows.values())
