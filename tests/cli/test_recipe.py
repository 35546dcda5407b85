"""accel.toml: read strictly, overridden by flags, and nothing unchanged is done twice."""

from pathlib import Path

import pytest

RECIPE = """
[model]
source = "net.onnx"

[data]
calibration = "data"
evaluation = "data"

[task]
name = "classification"

[build]
backend = "reference"

[[targets]]
name = "j5"

[[targets]]
name = "mlu370"
precision = ["qint8_mixed_float16", "force_float32"]

[metrics.min]
cosine = 0.9
"""


@pytest.fixture
def recipe(tiny, tmp_path) -> Path:
    (tmp_path / "accel.toml").write_text(RECIPE)
    return tmp_path / "accel.toml"


def test_parse_to_report(cli, recipe, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir("/")  # paths are relative to the recipe, not to here
    done = cli.json("recipe", "run", recipe)
    assert done.code == 0, done.data
    assert [(a["target"], a["precision"]) for a in done.data["artifacts"]] == [
        ("j5", "int8"),
        ("mlu370-s4", "qint8_mixed_float16"),
        ("mlu370-s4", "force_float32"),
    ]
    assert all(Path(a["path"]).parent == tmp_path / "build" for a in done.data["artifacts"])
    assert len(done.data["reports"]) == 3


def test_second_run_does_nothing_again(cli, recipe, monkeypatch) -> None:
    first = cli.json("recipe", "run", recipe)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("this stage was run again")

    from accel.plugins import registry

    for hook in ("accel_parse", "accel_calibrate", "accel_build", "accel_run", "accel_evaluate"):
        monkeypatch.setattr(registry().hooks, hook, never)
    second = cli.json("recipe", "run", recipe)
    assert second.code == 0, second.data
    assert all(a["cached"] for a in second.data["artifacts"])
    assert [r["metrics"] for r in second.data["reports"]] == [r["metrics"] for r in first.data["reports"]]


def test_only_and_from(cli, recipe, tmp_path) -> None:
    assert cli("recipe", "run", recipe, "--only", "evaluate").code == 2  # nothing is built yet
    assert cli("recipe", "run", recipe, "--only", "calibrate").code == 0
    built = cli.json("recipe", "run", recipe, "--only", "build")
    assert len(built.data["artifacts"]) == 3 and built.data["reports"] == []
    assert len(cli.json("recipe", "run", recipe, "--only", "evaluate").data["reports"]) == 3
    again = cli.json("recipe", "run", recipe, "--from", "build")
    assert not any(a["cached"] for a in again.data["artifacts"])


def test_one_target_of_it(cli, recipe) -> None:
    done = cli.json("recipe", "run", recipe, "-t", "j5")
    assert [a["target"] for a in done.data["artifacts"]] == ["j5"]
    assert cli("recipe", "run", recipe, "-t", "bm1684").code == 2


def test_bar_of_the_recipe(cli, recipe) -> None:
    recipe.write_text(RECIPE.replace("cosine = 0.9", "top1 = 1.01"))
    assert cli("recipe", "run", recipe, "-t", "j5").code == 5


def test_flags_override_the_recipe(cli, recipe, tmp_path) -> None:
    words = ("compile", "-r", recipe, "-t", "mlu370", "-p", "force_float16", "-o", tmp_path / "other")
    done = cli.json(*words)
    assert [(a["target"], a["precision"]) for a in done.data["artifacts"]] == [("mlu370-s4", "force_float16")]
    assert cli.json("compile", "-r", recipe).data["artifacts"][0]["target"] == "j5"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('name = "classification"', 'nane = "classification"', "name"),
        ("[data]\ncalibration", "[data]\ncalibratoin", "calibration"),
        ("[build]\nbackend", "[build]\nbakend", "backend"),
        ("[metrics.min]", "[metric.min]", "metrics"),
        ('name = "j5"', 'name = "j5"\nprecison = "int8"', "precision"),
    ],
)
def test_unknown_key_is_named_with_the_near_one(cli, recipe, old, new, named) -> None:
    assert old in RECIPE
    recipe.write_text(RECIPE.replace(old, new))
    error = cli.json("recipe", "run", recipe).data["error"]
    assert error["code"] == "usage.recipe" and error["exit_code"] == 2
    assert "unknown key" in error["cause"] and named in error["hints"][0]
    key = new.split("\n")[-1].split(" =")[0].strip("[]")
    line = next(at for at, text in enumerate(recipe.read_text().splitlines(), 1) if key in text)
    assert f"line {line}:" in error["summary"]


@pytest.mark.parametrize("text", ["", "not toml", "[model]\nsource = 5", '[model]\nsource = "net.onnx"\n'])
def test_what_is_no_recipe(cli, recipe, text) -> None:
    recipe.write_text(text)
    assert cli.json("recipe", "run", recipe).data["error"]["exit_code"] == 2


def test_unknown_preprocessing_key(cli, recipe) -> None:
    recipe.write_text(RECIPE + "\n[preprocessing]\nmeen = 1\n")
    error = cli.json("recipe", "run", recipe).data["error"]
    assert error["exit_code"] == 2 and "mean" in error["hints"][0]
    assert f"line {len(recipe.read_text().splitlines())}:" in error["summary"]
    recipe.write_text(RECIPE + '\n[preprocessing]\nmean = [1, "a"]\n')
    error = cli.json("recipe", "run", recipe).data["error"]
    assert error["exit_code"] == 2 and f"line {len(recipe.read_text().splitlines())}:" in error["summary"]


@pytest.mark.parametrize(
    ("table", "key", "line"),
    [
        ("", "output", 1),
        ("model", "source", 3),
        ("targets[1]", "name", 7),
        ("data", "options", 8),
        ("data.options", "x", 9),
    ],
)
def test_line_of_a_key(table, key, line) -> None:
    from accel.recipe import line_of

    text = 'output = "x"\n[model]\nsource = 1\n[[targets]]\nname = "a"\n[[ targets ]]\n"name" = "b"\n'
    text += "[data.options]\nx = 1\n"
    assert line_of(text, table, key) == line
    assert line_of(text, table, "absent") == 0


def test_variants_and_every_batch(cli, recipe, tmp_path) -> None:
    two = """
[[targets]]
name = "mlu370"
variant = "one"
precision = "force_float32"

[[targets]]
name = "mlu370"
variant = "both"
precision = "force_float32"
batches = [1, 4]

[evaluate]
every_batch = true
"""
    recipe.write_text(RECIPE[: RECIPE.index("[[targets]]")] + two)
    done = cli.json("recipe", "run", recipe, "--html", tmp_path / "page.html")
    assert done.code == 0, done.data
    names = [Path(a["path"]).name for a in done.data["artifacts"]]
    assert names == ["net-mlu370-s4-force_float32-one", "net-mlu370-s4-force_float32-both"]
    for reports in (done.data["reports"], done.data["performance"]):
        assert [(r["subject"]["variant"], r["subject"]["batch"]) for r in reports] == [
            ("one", "1"),
            ("both", "1"),
            ("both", "4"),
        ]
    assert "force_float32 both" in (tmp_path / "page.html").read_text()
    text = cli("recipe", "run", recipe).out
    assert all(len(line) <= 80 for line in text.splitlines() if not line.startswith(("note", "/", "again")))
    recipe.write_text(recipe.read_text().replace('variant = "both"', 'variant = "../x"'))
    assert cli.json("recipe", "run", recipe).data["error"]["code"] == "usage.recipe"
    recipe.write_text(recipe.read_text().replace('variant = "../x"', 'variant = "one"'))
    assert cli.json("recipe", "run", recipe).data["error"]["code"] == "usage.output"


def test_missing_data_is_said_before_the_builds(cli, recipe, tmp_path) -> None:
    recipe.write_text(RECIPE.replace('evaluation = "data"', 'evaluation = "absent"'))
    done = cli.json("recipe", "run", recipe)
    assert done.code != 0 and "absent" in done.data["error"]["summary"]
    assert not (tmp_path / "build").exists()


def test_missing_recipe(cli, tmp_path) -> None:
    assert cli("recipe", "run", tmp_path / "absent.toml").code == 2


def test_html_page(cli, recipe, tmp_path) -> None:
    done = cli.json("recipe", "run", recipe, "--html", tmp_path / "page" / "report.html")
    assert done.code == 0, done.data
    page = (tmp_path / "page" / "report.html").read_text()
    assert all(word in page for word in ("j5", "qint8_mixed_float16", "cosine", "accel recipe run"))
    assert page.lstrip().lower().startswith("<!doctype html")


def test_report_of_the_recipe(cli, recipe, tmp_path) -> None:
    recipe.write_text('report = "out/report.html"\n' + RECIPE)
    assert cli("recipe", "run", recipe, "-t", "j5").code == 0
    assert (tmp_path / "out" / "report.html").is_file()
    assert cli("recipe", "run", recipe, "--only", "build").code == 0
