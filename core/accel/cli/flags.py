"""Options that several commands share: aliases, groups of them as data classes, and what they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_args, get_type_hints

import typer

from accel.cli.names import target_names
from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.cache import Cache
    from accel.options import BuildOptions, CalibrateOptions, ParseOptions
    from accel.preprocessing import Preprocessing

Words: TypeAlias = list[str] | None
"""What Typer makes of an option that may be given several times; None where it is not given."""


Model = Annotated[str, typer.Argument(metavar="MODEL", help="The network: .onnx, or what a frontend reads.")]
Artifact = Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Folder of an artifact.")]
Artifacts = Annotated[list[Path], typer.Argument(metavar="ARTIFACT...", help="Folders of artifacts.")]
Target = Annotated[
    str,
    typer.Option(
        "--target", "-t", metavar="TARGET", autocompletion=target_names, help="Chip, as `accel targets` lists it."
    ),
]
Targets = Annotated[
    Words,
    typer.Option(
        "--target",
        "-t",
        metavar="TARGET",
        autocompletion=target_names,
        help="Chip, as `accel targets` lists it; several times.",
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Do all the work again and keep nothing.")]
Simulator = Annotated[str, typer.Option("--simulator", metavar="NAME", help="Which simulator of the vendor.")]
Device = Annotated[str, typer.Option("--device", metavar="D", help="auto, simulator or a number.")]

_data = partial(typer.Option, rich_help_panel="Samples")
_build = partial(typer.Option, rich_help_panel="Build")
_parse = partial(typer.Option, rich_help_panel="Reading the network")
_pixels = partial(typer.Option, rich_help_panel="Preprocessing of pictures")

DataOption = Annotated[Words, _data("--data-option", metavar="NAME=VALUE", help="Option of the data reader.")]
SkipBad = Annotated[bool, _data("--skip-bad", help="Leave unreadable samples out, and name them.")]


@dataclass(frozen=True)
class DataFlags:
    """Which samples, and how they are read."""

    data: Annotated[
        str, _data("--data", "-d", metavar="DATA", help="Samples: folder, list file, .npz, or KIND:PATH.")
    ] = ""
    data_option: DataOption = None
    samples: Annotated[
        int, _data("--samples", min=0, metavar="N", show_default=False, help="At most this many samples; 0: all.")
    ] = 0
    skip_bad: SkipBad = False
    labels: Annotated[Path | None, _data("--labels", metavar="FILE", help="Class names, one a line.")] = None

    def options(self) -> dict[str, str]:
        """The data reader's options: named ones and ``--data-option``."""
        return reader_options(self.data_option, self.samples, self.skip_bad)

    def calibrate_options(self, base: CalibrateOptions | None = None) -> CalibrateOptions:
        """The options of the calibrate stage as ``compile`` and ``build`` have them."""
        from accel.options import CalibrateOptions

        start = base or CalibrateOptions()
        return replace(start, samples=self.samples) if self.samples else start


@dataclass(frozen=True)
class ParseFlags:
    """How a network is read."""

    shape: Annotated[
        Words,
        _parse(
            "--shape", "--input-shape", metavar="[INPUT=]1,3,224,224", help="Shape of an input, for free dimensions."
        ),
    ] = None
    output: Annotated[Words, _parse("--output", metavar="TENSOR", help="Cut the network at this tensor.")] = None
    rename: Annotated[Words, _parse("--rename", metavar="OLD=NEW", help="Rename an input.")] = None
    weights: Annotated[Path | None, _parse("--weights", metavar="FILE", help="Second file of a two-file format.")] = (
        None
    )
    frontend: Annotated[
        str,
        _parse(
            "--frontend",
            metavar="NAME",
            help="Frontend, or vendor: its compiler reads the file.",
        ),
    ] = ""
    no_simplify: Annotated[bool, _parse("--no-simplify", help="Keep the graph as it is.")] = False
    name: Annotated[str, _parse("--name", metavar="NAME", help="Name of the model; default: the file's.")] = ""
    parse_option: Annotated[Words, _parse("--parse-option", metavar="NAME=VALUE", help="Option of one frontend.")] = (
        None
    )

    def options(self, base: ParseOptions | None = None) -> ParseOptions:
        """The options of the parse stage; flags override ``base``."""
        from accel.options import ParseOptions

        changes: dict[str, Any] = {
            "frontend": "" if self.frontend == "auto" else self.frontend,
            "weights": self.weights,
            "input_shapes": shapes(self.shape),
            "output_names": tuple(self.output or ()),
            "renames": pairs(self.rename, "--rename"),
            "name": self.name,
            "extra": pairs(self.parse_option, "--parse-option"),
        }
        changes = {k: v for k, v in changes.items() if v}
        if self.no_simplify:
            changes["simplify"] = False
        return replace(base or ParseOptions(), **changes)


@dataclass(frozen=True)
class PreprocessingFlags:
    """What happens to a picture on its way into the network."""

    size: Annotated[str, _pixels("--size", metavar="H,W", help="Pixels of the input; default: the model's.")] = ""
    resize: Annotated[str, _pixels("--resize", metavar="KIND", help="stretch, short_side[:PIXELS] or letterbox.")] = ""
    interpolation: Annotated[
        str, _pixels("--interpolation", metavar="F", help="bilinear, bicubic, nearest or area.")
    ] = ""
    color: Annotated[str, _pixels("--color", metavar="ORDER", help="rgb, bgr or gray.")] = ""
    layout: Annotated[str, _pixels("--layout", metavar="L", help="NCHW or NHWC.")] = ""
    scale: Annotated[
        float | None, _pixels("--scale", metavar="S", help="Factor on the 0..255 pixel, applied first.")
    ] = None
    mean: Annotated[str, _pixels("--mean", metavar="M[,M,M]", help="Subtracted, in units after --scale.")] = ""
    std: Annotated[str, _pixels("--std", metavar="S[,S,S]", help="Divided by, in units after --scale.")] = ""

    def over(self, base: Preprocessing | None) -> Preprocessing | None:
        """``base`` (a recipe's or an artifact's) with the flags that were given; None when there is neither."""
        from accel.preprocessing import Preprocessing

        kinds = get_type_hints(Preprocessing)
        changes: dict[str, Any] = {}
        if self.size:
            pixels = integers(self.size, "--size")
            if len(pixels) not in (1, 2):
                raise AccelError("--size is H,W", code="usage.arguments")
            changes["size"] = (pixels[0], pixels[-1])
        if self.resize:
            kind, _, side = self.resize.partition(":")
            changes["resize"] = choice(kind, "--resize", get_args(kinds["resize"]))
            if side:
                changes["resize_to"] = integers(side, "--resize")[0]
        for name in ("color", "layout", "interpolation"):
            if value := getattr(self, name):
                changes[name] = choice(value, f"--{name}", get_args(kinds[name]))
        if self.scale is not None:
            changes["scale"] = self.scale
        for name in ("mean", "std"):
            if value := getattr(self, name):
                changes[name] = numbers(value, f"--{name}")
        if "std" in changes and 0.0 in changes["std"]:
            raise AccelError("--std cannot be 0", code="usage.arguments")
        return replace(base or Preprocessing(), **changes) if changes else base


@dataclass(frozen=True)
class BuildFlags:
    """How a network is built for a chip."""

    precision: Annotated[
        str, _build("--precision", "-p", metavar="P", help="Precision; default: the chip's first.")
    ] = ""
    backend: Annotated[str, _build("--backend", metavar="B", help="auto, vendor or reference.")] = ""
    method: Annotated[
        str, _build("--method", metavar="M", help="Thresholds: auto, minmax, percentile, kl, mse, aciq.")
    ] = ""
    calibrator: Annotated[
        str, _build("--calibrator", metavar="WHO", help="accel: our thresholds; vendor: the tool's own.")
    ] = ""
    calibration: Annotated[
        Path | None,
        _build("--calibration", metavar="FILE", help="Statistics of `accel calibrate`, instead of --data."),
    ] = None
    batch: Annotated[str, _build("--batch", metavar="N[,N]", help="Batch sizes the artifact runs.")] = ""
    dynamic: Annotated[bool, _build("--dynamic", help="Dynamic shapes, where the compiler has them.")] = False
    opt: Annotated[
        int | None, _build("--opt", metavar="LEVEL", help="Optimisation level of the vendor's compiler.")
    ] = None
    cores: Annotated[int | None, _build("--cores", metavar="N", help="Cores (clusters) to build for.")] = None
    node_precision: Annotated[Words, _build("--node-precision", metavar="NODE=P", help="Precision of one node.")] = None
    fold_preprocessing: Annotated[
        bool, _build("--fold-preprocessing", help="Put mean, std and scale inside the network.")
    ] = False
    int_io: Annotated[str, _build("--int-io", metavar="SIDES", help="input, output or both: integers there.")] = ""
    pass_: Annotated[Words, _build("--pass", metavar="NAME=on|off", help="Switch a preparation pass.")] = None
    set_: Annotated[Words, _build("--set", metavar="NAME=VALUE", help="Option that only this chip has.")] = None

    def options(
        self, preprocessing: PreprocessingFlags, labels: Path | None = None, base: BuildOptions | None = None
    ) -> BuildOptions:
        """The options of the build stage; flags that were given override ``base``.

        Args:
            preprocessing: Flags over the preprocessing of ``base``.
            labels: File of class names to put into the artifact.
            base: From a recipe.
        """
        from accel.options import Backend, BuildOptions

        changes: dict[str, Any] = {
            "precision": self.precision,
            "method": self.method,
            "batches": integers(self.batch, "--batch"),
            "opt": self.opt,
            "cores": self.cores,
            "node_precisions": pairs(self.node_precision, "--node-precision"),
            "passes": switches(self.pass_),
            "set": pairs(self.set_, "--set"),
            "dynamic": self.dynamic,
            "fold_preprocessing": self.fold_preprocessing,
            "labels": read_labels(labels),
        }
        if self.backend:
            changes["backend"] = choice(self.backend, "--backend", get_args(Backend))
        if self.calibrator:
            changes["calibrator"] = choice(self.calibrator, "--calibrator", ("accel", "vendor"))
        if self.int_io:
            words = [w.strip() for w in self.int_io.split(",")]
            changes["int_io"] = frozenset(choice(w, "--int-io", ("input", "output")) for w in words)
        start = base or BuildOptions()
        changes = {k: v for k, v in changes.items() if v not in (None, "", (), {}, False)}
        changes["preprocessing"] = preprocessing.over(start.preprocessing)
        return replace(start, **changes)


def pairs(words: Sequence[str] | None, option: str) -> dict[str, str]:
    """``["a=1"]`` to ``{"a": "1"}``.

    Raises:
        AccelError: ``usage.arguments`` for a word without ``=``, or the same name twice.
    """
    found: dict[str, str] = {}
    for word in words or []:
        # The last "=": a node's name may hold one, a precision does not.
        name, equals, value = word.rpartition("=") if option == "--node-precision" else word.partition("=")
        if not equals or not name:
            raise AccelError(f"{option} {word!r} is not NAME=VALUE", code="usage.arguments")
        if name in found:
            raise AccelError(f"{option} names {name!r} twice", code="usage.arguments")
        found[name] = value
    return found


def switches(words: Sequence[str] | None) -> dict[str, bool]:
    """``["equalize=off"]`` to ``{"equalize": False}``."""
    found = {}
    for name, value in pairs(words, "--pass").items():
        if value not in ("on", "off"):
            raise AccelError(f"--pass {name}={value} is neither on nor off", code="usage.arguments")
        found[name] = value == "on"
    return found


def integers(text: str, option: str) -> tuple[int, ...]:
    """``"1,4"`` to ``(1, 4)``; positive."""
    words = [w.strip() for w in text.replace("x", ",").split(",") if w.strip()]
    if not all(w.isascii() and w.isdigit() and int(w) > 0 for w in words):
        raise AccelError(f"{option} {text!r} is not a list of positive whole numbers", code="usage.arguments")
    return tuple(int(w) for w in words)


def numbers(text: str, option: str) -> tuple[float, ...]:
    """``"0.5,1"`` to ``(0.5, 1.0)``."""
    try:
        return tuple(float(w) for w in text.split(","))
    except ValueError:
        raise AccelError(f"{option} {text!r} is not a list of numbers", code="usage.arguments") from None


def choice(value: str, option: str, allowed: Sequence[str]) -> Any:
    """``value`` if it is one of ``allowed``."""
    if value not in allowed:
        from difflib import get_close_matches

        near = get_close_matches(value, allowed, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Choose one of: {', '.join(allowed)}."
        raise AccelError(f"{option} cannot be {value!r}", code="usage.arguments", hints=[hint])
    return value


def shapes(words: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """``["1,3,8,8"]`` or ``["x=-1,3,8,8"]`` to shapes by input name; -1 in front is a free batch."""
    found: dict[str, tuple[int, ...]] = {}
    for word in words or []:
        name, _, text = word.rpartition("=")
        free = text.lstrip().startswith("-1,")  # a free batch
        found[name] = ((-1,) if free else ()) + integers(text.lstrip()[3 * free :], "--shape")
    return found


def read_labels(path: Path | None) -> tuple[str, ...]:
    """Class names, one a line.

    Raises:
        AccelError: ``data.labels`` when the file cannot be read.
    """
    if path is None:
        return ()
    from accel.builtin.datasets.labels import read_labels as read

    return read(path)


def cache_of(no_cache: bool) -> Cache:
    """The user's result cache, or one that does nothing."""
    from accel.cache import Cache, NoCache

    return NoCache() if no_cache else Cache()


def reader_options(words: Words, samples: int, skip_bad: bool) -> dict[str, str]:
    """A data reader's options, as it takes them."""
    options = pairs(words, "--data-option")
    if samples:
        options.setdefault("samples", str(samples))
    if skip_bad:
        options["skip_bad"] = "yes"
    return options
