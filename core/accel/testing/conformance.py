"""What every plugin must keep to, as pytest tests that its author runs; see :mod:`accel.testing`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from accel import driver
from accel.errors import AccelError
from accel.hookspecs import AccelSpec
from accel.options import BuildOptions, ParseOptions, RunOptions
from accel.plugins import PLUGINS, TARGETS, Origin, registry
from accel.target import Figure, Numerics, QuantScheme, Target
from accel.testing.networks import TinyData, tiny_model

LOWEST_COSINE = 0.98
"""Of int8 or wider on the tiny network; narrower ones are only run."""


class PluginConformance:
    """Subclass it, name your package, and pytest does the rest.

    Attributes:
        package: Distribution name.
        expected_failures: Reason by test id (``test_name`` or ``test_name[target-precision]``).
        lowest_cosine: What int8 and wider must reach against float on the tiny network.
    """

    package: ClassVar[str] = ""
    expected_failures: ClassVar[Mapping[str, str]] = {}
    lowest_cosine: ClassVar[float] = LOWEST_COSINE

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test a target, or a target and precision."""
        if "precision" in metafunc.fixturenames:
            cases = [(t.name, p) for t in self.targets() for p in t.numerics]
            metafunc.parametrize(("name", "precision"), cases, ids=[f"{t}-{p}" for t, p in cases])
        elif "name" in metafunc.fixturenames:
            metafunc.parametrize("name", [t.name for t in self.targets()])

    @pytest.fixture(autouse=True)
    def _expected(self, request: pytest.FixtureRequest) -> None:
        reason = self.expected_failures.get(request.node.name)
        if reason is not None:
            request.node.add_marker(pytest.mark.xfail(reason=reason, strict=True))

    @classmethod
    def targets(cls) -> list[Target]:
        """The package's chips, loaded."""
        found = registry()
        return [found.target(n) for n, e in found.targets.items() if _same(e.origin.package, cls.package)]

    @classmethod
    def origins(cls) -> list[Origin]:
        """Its vendor entries."""
        return [o for o in registry().origins(PLUGINS) if _same(o.package, cls.package)]

    # Entry points

    def test_is_installed_with_targets(self) -> None:
        assert metadata.version(self.package)
        assert self.targets(), f"{self.package} has no entry in the group {TARGETS}"
        assert not [p for p in registry().problems if self.package in p.origin]

    def test_entry_name_is_the_targets_own(self, name: str) -> None:
        entry = registry().targets[name]
        target = registry().target(name)
        assert target.name == name == name.lower()
        assert set(entry.aliases) == set(target.aliases), "every alias is an entry point to the same object"
        for alias in target.aliases:
            assert registry().target(alias) is target

    def test_a_vendor_plugin_is_named_like_its_targets_vendor(self) -> None:
        vendors = {t.vendor for t in self.targets()}
        assert {o.name for o in self.origins()} <= vendors

    # Target data

    def test_target_data(self, name: str) -> None:
        target = registry().target(name)
        assert target.summary and len(target.summary) <= 100 and "\n" not in target.summary
        assert target.numerics and target.cores and all(c > 0 for c in target.cores)
        for alias, precision in target.precision_aliases.items():
            assert precision in target.numerics and alias not in target.numerics
        figures = [*target.peaks.values(), target.on_chip_bytes, target.dram_bytes, target.dram_bandwidth]
        for figure in figures:
            assert figure is None or _good(figure), f"{figure} has no value, unit or source"
        names = [o.name for o in target.options]
        assert len(names) == len(set(names)) and all(o.help for o in target.options)
        assert set(target.support) <= set(target.numerics), "support names precisions of the target"

    def test_numerics(self, name: str, precision: str) -> None:
        numerics = registry().target(name).numerics[precision]
        assert numerics.precision == precision
        assert (numerics.activation is None) == (numerics.weight is None) == (not numerics.quantized_ops)
        for scheme in (numerics.activation, numerics.weight):
            assert scheme is None or _possible(scheme)

    # The embedded reference serves every target

    def test_reference_round_trip(self, name: str, precision: str, tmp_path: Path) -> None:
        """Build, read back, run and compare with float; twice the same build gives the same bytes."""
        model, numerics = _prepared(), registry().target(name).numerics[precision]
        _calibration()
        try:
            made = _build(name, precision, tmp_path / "a")
        except AccelError as error:
            assert error.code.startswith("unsupported"), f"{error.code}: {error.summary}"
            pytest.skip(f"refused with its reason: {error.summary}")
        again = _build(name, precision, tmp_path / "b")
        assert made.manifest == again.manifest
        manifest = made.manifest
        assert (manifest.target, manifest.precision, manifest.backend) == (name, precision, "reference")
        assert manifest.model_digest == model.digest
        with driver.run(made) as runner, driver.run_float(model) as reference:
            assert runner.provenance == "simulated"
            for sample in TinyData(3, seed=5):
                (wanted,), (got,) = reference.run(sample.inputs).values(), runner.run(sample.inputs).values()
                assert got.shape == wanted.shape and got.dtype == np.float32 and np.isfinite(got).all()
                if _fine(numerics):
                    assert _cosine(got, wanted) >= self.lowest_cosine
            with pytest.raises(AccelError):
                runner.run({"nobody's": np.zeros((1, 3, 16, 16), np.float32)})

    def test_reference_evaluates(self, name: str, tmp_path: Path) -> None:
        _calibration()
        try:
            made = _build(name, registry().target(name).default_precision, tmp_path / "a")
        except AccelError as error:
            assert error.code.startswith("unsupported"), f"{error.code}: {error.summary}"
            pytest.skip(f"refused with its reason: {error.summary}")
        with driver.run(made) as runner, driver.run_float(_prepared()) as reference:
            report = driver.evaluate(runner, TinyData(4), against=reference)
        assert report.metric("samples").value == 4
        assert {m.provenance for m in report.metrics} == {"simulated"}

    def test_check_names_every_node(self, name: str) -> None:
        nodes = driver.check(_prepared(), name)
        assert {n.node for n in nodes} >= {n.name for n in _prepared().proto.graph.node if n.op_type != "Constant"}
        assert all(n.reason for n in nodes if not n.supported)

    # Errors

    def test_unknown_precision_is_unsupported(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(AccelError) as caught:
            driver.build(tiny_model(), name, tmp_path / "a", BuildOptions(precision="int3"))
        assert caught.value.code == "unsupported.precision" and caught.value.hints
        assert list(tmp_path.iterdir()) == []

    def test_unknown_option_is_named(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(AccelError) as caught:
            driver.build(tiny_model(), name, tmp_path / "a", BuildOptions(set={"no_such_option": "1"}))
        assert caught.value.exit_code == 2 and "no_such_option" in caught.value.summary

    # Hooks

    def test_hooks_are_of_the_contract(self) -> None:
        known = {n for n in vars(AccelSpec) if n.startswith("accel_")}
        for plugin in self._plugins():
            unknown = {n for n in dir(plugin) if n.startswith("accel_") and hasattr(getattr(plugin, n), "accel_impl")}
            assert unknown <= known

    def test_declines_what_is_not_its_own(self, tmp_path: Path) -> None:
        """``None`` for another vendor's target, a foreign file or artifact."""
        stranger = Target(name="stranger", vendor="nobody", summary="", numerics={"fp32": Numerics("fp32")})
        foreign = tmp_path / "file.foreign"
        foreign.write_bytes(b"foreign")
        other = _foreign_artifact(tmp_path / "artifact")
        asked: dict[str, list[dict[str, Any]]] = {
            "accel_parse": [{"source": foreign, "options": ParseOptions()}],
            "accel_build": [{"model": _prepared(), "target": stranger, "options": BuildOptions()}],
            "accel_calibrate": [{"model": _prepared(), "dataset": TinyData(1), "target": stranger}],
            "accel_check": [{"model": _prepared(), "target": stranger, "options": BuildOptions()}],
            "accel_run": [{"artifact": other, "options": RunOptions()}],
            "accel_perf": [{"artifact": other, "options": RunOptions()}],
            "accel_inspect": [{"path": foreign}],
            "accel_combine": [{"artifacts": [other, other]}],
            "accel_task": [{"name": "no such task", "options": {}}],
            "accel_dataset": [{"source": "no-such-kind:x", "model": _prepared(), "preprocessing": None}],
        }
        rest: dict[str, Any] = {"options": {}, "calibration": None, "workspace": tmp_path}
        for plugin in self._plugins():
            for hook, calls in asked.items():
                function = getattr(plugin, hook, None)
                if function is None:
                    continue
                for call in calls:
                    wanted = inspect.signature(function).parameters
                    given = {k: v for k, v in {**rest, **call}.items() if k in wanted}
                    assert function(**given) is None, f"{hook} answered a call that is not for it"

    def test_toolchains_and_hints(self) -> None:
        import re

        from accel.toolchain.spec import Toolchain

        declared = []
        for plugin in self._plugins():
            declared += list(getattr(plugin, "accel_toolchains", list)())
            for hint in getattr(plugin, "accel_error_hints", list)():
                re.compile(hint.pattern)
                assert hint.summary or hint.hint
        assert all(isinstance(t, Toolchain) and t.summary for t in declared)
        wanted = {t.toolchain for t in self.targets() if t.toolchain}
        assert wanted <= {t.name for t in declared}, "a target names a toolchain that nobody declares"

    def _plugins(self) -> Iterator[Any]:
        from stevedore import DriverManager

        for origin in self.origins():
            manager: DriverManager[Any] = DriverManager(PLUGINS, origin.name)
            plugin = manager.driver
            yield plugin() if isinstance(plugin, type) else plugin


def _same(a: str, b: str) -> bool:
    return a.lower().replace("_", "-") == b.lower().replace("_", "-")


def _good(figure: Figure) -> bool:
    return figure.value > 0 and bool(figure.unit) and bool(figure.source)


def _possible(scheme: QuantScheme) -> bool:
    return 2 <= scheme.bits <= 32 and not (scheme.rule == "affine" and scheme.symmetric)


def _fine(numerics: Numerics) -> bool:
    return all(s is None or s.bits >= 8 for s in (numerics.activation, numerics.weight))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


@lru_cache
def _prepared() -> Any:
    return driver.prepare(tiny_model())


@lru_cache
def _calibration() -> Any:
    return driver.measure(_prepared(), TinyData(16, seed=2))


def _build(name: str, precision: str, output: Path) -> Any:
    target = registry().target(name)
    calibration = _calibration() if target.numerics[precision].quantized else None
    options = BuildOptions(precision=precision, backend="reference", method="minmax")
    return driver.build(_prepared(), target, output, options, calibration=calibration)


def _foreign_artifact(place: Path) -> Any:
    from accel.artifact import Manifest
    from accel.artifacts import write_artifact

    place.mkdir()
    (place / "payload").write_bytes(b"foreign")
    model = _prepared()
    manifest = Manifest(
        schema=1,
        name="foreign",
        target="stranger",
        vendor="nobody",
        backend="vendor",
        precision="fp32",
        payload="foreign",
        inputs=model.inputs,
        outputs=model.outputs,
        batches=(1,),
        files=(),
        model_digest=model.digest,
    )
    made = write_artifact(place, manifest, {"model": place / "payload"})
    return replace(made)
