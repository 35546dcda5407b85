"""The five stages from the command line, on the embedded reference."""

import json
from pathlib import Path

import numpy as np
import pytest

REFERENCE = ("--backend", "reference")


def files(artifact: Path) -> dict[str, bytes]:
    return {p.relative_to(artifact).as_posix(): p.read_bytes() for p in sorted(artifact.rglob("*")) if p.is_file()}


def test_single_steps_and_compile_give_the_same_artifact(cli, tiny, tmp_path) -> None:
    """Byte for byte, manifest included, for every target of one calibration."""
    net, data = tiny
    parsed, calibration = tmp_path / "parsed.onnx", tmp_path / "net.calibration"
    targets = ("bm1684", "j5", "mlu370-s4")
    words = [w for t in targets for w in ("-t", t)]
    made = cli.json("compile", net, *words, *REFERENCE, "-d", data, "-o", tmp_path / "a", "--no-cache")
    assert made.code == 0, made.data
    assert cli("parse", net, "-o", parsed, "--no-cache").code == 0
    assert cli("calibrate", parsed, "-d", data, "-o", calibration, "--no-cache").code == 0
    for built in made.data["artifacts"]:
        step = tmp_path / "b" / built["target"]
        words = ("build", parsed, "-t", built["target"], *REFERENCE, "--calibration", calibration, "-o", step)
        assert cli(*words, "--no-cache").code == 0
        assert files(step) == files(Path(built["path"]))


def test_python_gives_what_the_command_line_gives(cli, tiny, tmp_path) -> None:
    import accel
    from accel.driver import open_dataset
    from accel.options import BuildOptions

    net, data = tiny
    assert cli("compile", net, "-t", "j5", *REFERENCE, "-d", data, "-o", tmp_path / "cli").code == 0
    model = accel.parse(net)
    options = BuildOptions(backend="reference")
    (made,) = accel.compile(net, ["j5"], tmp_path / "py", dataset=open_dataset(data, model), build_options=options)
    assert files(made.path) == files(tmp_path / "cli" / made.path.name)
    with accel.run(made) as runner:
        (output,) = runner.run({"x": np.zeros((1, 3, 16, 16), np.float32)}).values()
    assert output.shape == (1, 10)


def test_unchanged_build_is_a_hit_and_the_same(cli, tiny, tmp_path) -> None:
    net, data = tiny
    words = ("compile", net, "-t", "j5", *REFERENCE, "-d", data)
    first = cli.json(*words, "-o", tmp_path / "a").data["artifacts"][0]
    second = cli.json(*words, "-o", tmp_path / "b").data["artifacts"][0]
    assert (first["cached"], second["cached"]) == (False, True)
    assert files(Path(first["path"])) == files(Path(second["path"]))
    kinds = [e["kind"] for e in cli.json("cache", "list").data["entries"]]
    assert sorted(kinds) == ["build", "calibrate", "parse", "prepare"]
    assert cli.json("cache", "size").data["bytes"] > 0
    assert cli.json(*words, "-o", tmp_path / "c", "--no-cache").data["artifacts"][0]["cached"] is False
    assert cli.json("cache", "clean").data["freed"] > 0
    assert cli.json(*words, "-o", tmp_path / "d").data["artifacts"][0]["cached"] is False


@pytest.mark.parametrize(
    "change",
    [("--method", "minmax"), ("-p", "int16"), ("--pass", "fold_batch_norm=off"), ("--batch", "2"), ("--name", "b")],
)
def test_a_changed_option_is_no_hit(cli, tiny, tmp_path, change) -> None:
    words = ("compile", tiny[0], "-t", "j5", *REFERENCE, "-d", tiny[1], "-o", tmp_path / "out", "--no-simplify")
    assert cli(*words).code == 0
    done = cli.json(*words, *change)
    assert done.code == 0, done.data
    assert done.data["artifacts"][0]["cached"] is False


def test_changed_data_is_no_hit(cli, tiny, tmp_path) -> None:
    net, data = tiny
    words = ("compile", net, "-t", "j5", *REFERENCE, "-d", data, "-o", tmp_path / "out")
    assert cli(*words).code == 0
    np.savez(data / "sample0.npz", x=np.full((1, 3, 16, 16), 9, np.float32), label=0)
    assert cli.json(*words).data["artifacts"][0]["cached"] is False


def test_several_precisions_in_one_run(cli, tiny, tmp_path) -> None:
    words = ("compile", tiny[0], "-t", "mlu370", "-p", "force_float32,force_float16", *REFERENCE)
    done = cli.json(*words, "-o", tmp_path)
    assert [a["precision"] for a in done.data["artifacts"]] == ["force_float32", "force_float16"]


def test_auto_says_what_it_took_and_how_to_get_the_other(cli, tiny, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "no-toolchains"))
    done = cli("compile", tiny[0], "-t", "bm1684", "-d", tiny[1], "-o", tmp_path / "out")
    assert done.code == 0 and "accel toolchain install sophon" in done.out + done.err
    manifest = cli.json("inspect", tmp_path / "out" / "net-bm1684-int8").data["manifest"]
    assert any("accel toolchain install sophon" in note for note in manifest["notes"])


def test_manifest_tells_the_whole_story(cli, tiny, tmp_path) -> None:
    net, data = tiny
    words = ("compile", net, "-t", "j5", *REFERENCE, "-d", data, "--mean", "1,2,3", "--std", "2", "--method", "kl")
    assert cli(*words, "-o", tmp_path).code == 0
    manifest = cli.json("inspect", tmp_path / "net-j5-int8").data["manifest"]
    assert manifest["preprocessing"]["mean"] == [1.0, 2.0, 3.0] and manifest["options"]["method"] == "kl"
    assert manifest["passes"][:2] == ["fold_constants", "fold_batch_norm"]
    assert {"accel-core", "accel-horizon", "onnxruntime"} <= set(manifest["versions"])
    assert manifest["model_digest"] and manifest["calibration_digest"] and manifest["nodes"]


@pytest.fixture
def artifact(cli, tiny, tmp_path) -> Path:
    done = cli.json("compile", tiny[0], "-t", "j5", *REFERENCE, "-d", tiny[1], "-o", tmp_path / "build")
    return Path(done.data["artifacts"][0]["path"])


def test_run_takes_every_kind_of_input(cli, artifact, tiny, tmp_path) -> None:
    x = np.load(tiny[1] / "sample0.npz")["x"]
    np.save(tmp_path / "x.npy", x)
    x.tofile(tmp_path / "x.bin")
    given = {tiny[1] / "sample0.npz", tmp_path / "x.npy", tmp_path / "x.bin", f"x={tmp_path / 'x.npy'}"}
    answers = []
    for at, source in enumerate(given):
        assert cli("run", artifact, source, "-o", tmp_path / f"{at}.npz").code == 0
        answers.append(np.load(tmp_path / f"{at}.npz")["logits"])
    assert all(np.array_equal(answers[0], a) for a in answers)
    assert cli("run", artifact, tiny[1], "-o", tmp_path / "all.json").code == 0
    everything = json.loads((tmp_path / "all.json").read_text())
    assert len(everything) == 6 and np.allclose(everything[0]["outputs"]["logits"], answers[0])


def test_run_shows_classes_with_labels(cli, artifact, tiny, tmp_path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class {c}\n" for c in "abcdefghij"))
    done = cli("run", artifact, tiny[1] / "sample0.npz", "--labels", labels, "--top", "3")
    assert done.code == 0 and done.out.count("class ") >= 3
    found = cli.json("run", artifact, tiny[1] / "sample0.npz", "--labels", labels, "--top", "3")
    assert len(found.data["predictions"][0]["classes"]) == 3


def test_timing_says_that_it_is_the_simulators(cli, artifact, tiny) -> None:
    done = cli.json("run", artifact, tiny[1] / "sample0.npz", "--repeat", "3", "--warmup", "0")
    assert done.data["timing"]["repeat"] == 3 and "not of the chip" in done.data["timing"]["meaning"]


def test_evaluate_compares_with_float_by_layer(cli, artifact, tiny) -> None:
    words = ("evaluate", artifact, "-d", tiny[1], "--against", tiny[0], "--layers")
    report = cli.json(*words).data["reports"][0]
    figures = {m["name"]: m["value"] for m in report["metrics"]}
    assert figures["samples"] == 6 and figures["cosine"] > 0.99
    assert {t["title"] for t in report["tables"]} >= {"outputs", "layers"}
    assert any("diverges" in note for note in report["notes"])
    assert report["commands"][0].startswith("accel evaluate")


@pytest.mark.parametrize(
    ("bar", "code"),
    [
        (("--min-cosine", "0.9"), 0),
        (("--min-cosine", "1.1"), 5),
        (("--min-sqnr", "500"), 5),
        (("--min", "nonsense=1"), 5),
    ],
)
def test_bars_decide_the_exit_code(cli, artifact, tiny, bar, code) -> None:
    done = cli.json("evaluate", artifact, "-d", tiny[1], "--against", tiny[0], *bar)
    assert done.code == code
    assert done.data["reports"] and done.data["ok"] is (code == 0)
    if code:
        assert done.data["error"]["code"] == "accuracy.below"


def test_evaluate_counts_right_answers(cli, artifact, tiny) -> None:
    words = ("evaluate", artifact, "-d", tiny[1], "--task", "classification")
    figures = {m["name"]: m["value"] for m in cli.json(*words).data["reports"][0]["metrics"]}
    assert 0 <= figures["top1"] <= figures["top5"] <= 1
    assert cli(*words, "--min-top1", "1.01").code == 5


def test_check_perf_inspect_and_doctor(cli, artifact, tiny) -> None:
    assert cli.json("check", tiny[0], "-t", "j5").data["supported"] is True
    assert cli("inspect", tiny[0]).code == cli("inspect", artifact, "--nodes").code == 0
    assert cli.json("perf", artifact).code in (0, 3)
    assert cli.json("doctor").data["problems"] == []
    assert {t["name"] for t in cli.json("toolchain", "list").data["toolchains"]} >= {"sophon", "horizon"}


def test_labels_and_preprocessing_travel_in_the_artifact(cli, tiny, tmp_path) -> None:
    (tmp_path / "labels.txt").write_text("".join(f"kind {c}\n" for c in "abcdefghij"))
    words = ("compile", tiny[0], "-t", "mlu370", "-p", "force_float32", *REFERENCE)
    assert cli(*words, "--labels", tmp_path / "labels.txt", "-o", tmp_path / "out").code == 0
    done = cli("run", tmp_path / "out" / "net-mlu370-s4-force_float32", tiny[1] / "sample1.npz")
    assert "kind " in done.out
