"""The HTML report: whole, self-contained, and safe with names that are not."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from accel.artifact import FileEntry, Manifest, NodeNumerics
from accel.builtin.htmlreport import render
from accel.model import TensorSpec
from accel.report import Metric, Report, Table
from PIL import Image

EVIL = "<script>alert(1)</script>$x_{$\"'&<img src=x onerror=alert(2)>"


def report(target: str, name: str = "conv", backend: str = "reference") -> Report:
    layers = tuple((f"{name}{at}", [1, 8], 0.99 - len(target) / 1000, 0.9, 20.0 - at, 0.1, "") for at in range(30))
    columns = ("layer", "shape", "cosine", "worst cosine", "SQNR dB", "max error", "note")
    metrics = (
        Metric("samples", 20, "", "simulated"),
        Metric("top1", 0.9, "", "simulated"),
        Metric("sqnr", 18.5, "dB", "simulated"),
    )
    subject = {"target": target, "precision": "int8", "backend": backend}
    return Report(name, metrics, (Table("layers", columns, layers),), (f"note {name}",), (f"accel {name}",), subject)


def manifest(target: str, name: str = "net") -> Manifest:
    nodes = tuple(NodeNumerics(f"n{at}", name, "int8", "host" if at == 0 else "") for at in range(5))
    spec = (TensorSpec(name, "float32", (1, 3)),)
    files = (FileEntry("m.bin", 1234567, "a" * 64, "model"),)
    start = Manifest(1, name, target, "v", "reference", "int8", "reference", spec, spec, (1,), files, "d" * 64)
    return replace(start, nodes=nodes, notes=(name,))


class Page(HTMLParser):
    """Every tag, every attribute that would load something, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href")]
        self.handlers += [key for key, _ in attrs if key.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.new("RGB", (1000, 600), "red").save(path)
    return path


def test_everything_is_on_the_page(picture: Path) -> None:
    targets = ("bm1684", "j5")
    html = render(
        [report(t) for t in targets],
        [manifest(t) for t in targets],
        [picture],
        title="My net",
        commands=["accel recipe run accel.toml"],
    )
    page = Page(html)
    for word in ("My net", "bm1684 int8", "j5 int8", "simulated", "0.9000", "18.5", "1,234,567"):
        assert word in page.words
    for word in ("accel recipe run accel.toml", "accel conv", "note conv", "conv29", "Where the operators run"):
        assert word in page.words
    assert page.tags.count("img") == 1
    assert page.words.count("bm1684 int8") >= 3


def test_the_page_needs_nothing_else(picture: Path) -> None:
    page = Page(render([report("bm1684")], [manifest("bm1684")], [picture]))
    assert "script" not in page.tags
    assert page.loads
    assert all(link.startswith(("data:", "#")) for link in page.loads)


def test_no_address_outside_the_page(picture: Path) -> None:
    import re

    html = render([report("bm1684", "https://example.org/x")], [manifest("bm1684")], [picture])
    addresses = re.findall(r'(?:src|href|xmlns(?::\w+)?)="([a-z]+:[^"]*)"|url\(([^)#][^)]*)\)|@import', html)
    named = {a or b for a, b in addresses}
    # Namespaces are names, nothing is loaded from them.
    assert {n for n in named if not n.startswith("data:")} <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "default-src 'none'" in html


def test_rows_tell_builds_of_one_chip_apart() -> None:
    made = [
        replace(r, subject={**r.subject, "variant": v, "batch": b})
        for r in [report("bm1684")]
        for v in ("fixed", "mutable")
        for b in ("1", "4")
    ]
    page = Page(render(made, [manifest("bm1684")] * 2, variants=("fixed", "mutable"), drawn_by="net-bm1684-int8"))
    for label in ("int8 fixed batch 1", "int8 mutable batch 4"):
        assert label in page.words
    assert "20 samples" in page.words


def test_worst_layers_stand_first() -> None:
    words = Page(render([report("bm1684")])).words
    worst = words[words.index("worst layers") :]
    assert worst.index("conv29") < worst.index("conv28") < worst.index("conv20") < worst.index("layers (30)")


@pytest.mark.slow
def test_a_browser_shows_it_without_a_complaint(picture: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    path, shot = tmp_path / "report.html", tmp_path / "shot.png"
    path.write_text(render([report(EVIL, EVIL), report("j5")], [manifest(EVIL, EVIL)], [picture], title=EVIL))
    words = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    words += " --disable-component-update --disable-sync --enable-logging=stderr --window-size=800,1200"
    own = [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={shot}", path.as_uri()]
    done = subprocess.run([browser, *words.split(), *own], capture_output=True, text=True, timeout=300, check=False)
    assert "CONSOLE" not in done.stderr
    with Image.open(shot) as seen:
        assert seen.size == (800, 1200)
        assert seen.convert("L").getextrema() == (0, 255)


def test_names_from_models_are_escaped(picture: Path) -> None:
    evil = picture.with_name("<b>x.png")
    picture.rename(evil)
    page = Page(render([report(EVIL, EVIL)], [manifest(EVIL, EVIL)], [evil], title=EVIL, commands=[EVIL]))
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert page.tags.count("img") == 1
    assert page.handlers == []
    assert EVIL in page.words


def test_charts_are_drawn_and_do_not_share_ids() -> None:
    pytest.importorskip("matplotlib")
    html = render([report("bm1684"), report("j5")])
    page = Page(html)
    assert page.tags.count("svg") == 3  # accuracy, cosine and SQNR by layer
    import re

    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert html == render([report("bm1684"), report("j5")])


def test_without_matplotlib_the_tables_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from accel.builtin.htmlreport import charts

    monkeypatch.setattr(charts, "available", lambda: False)
    page = Page(render([report("bm1684")]))
    assert "svg" not in page.tags
    assert "accel-core[report]" in page.words
    assert "conv29" in page.words


def test_empty_reports_and_missing_values() -> None:
    page = Page(render([Report("nothing", (Metric("AP", None, "", "simulated"),))]))
    assert "nothing" in page.words
    assert "–" in page.words


def test_samples_are_drawn_by_their_task(picture: Path, tmp_path: Path) -> None:
    from accel.builtin.datasets import open_dataset
    from accel.builtin.evaluate.float_runner import FloatRunner
    from accel.builtin.htmlreport import draw_samples
    from accel.builtin.tasks import make_task
    from accel.model import Model, io_specs
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["x"], ["y"])],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 1, 1])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model = Model(proto, "mean", *io_specs(proto))
    data = open_dataset(picture, model.inputs)
    (drawn,) = draw_samples(FloatRunner(model), data, make_task("classification"), tmp_path / "drawn")
    with Image.open(drawn) as shown:
        assert shown.size == (1000, 600)
