"""Flags that several commands share, and the option classes they become."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

import click

from accel.errors import AccelError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from accel.cache import Cache
    from accel.options import BuildOptions, CalibrateOptions, ParseOptions
    from accel.preprocessing import Preprocessing


Function = TypeVar("Function", bound=Callable[..., Any])


class TargetName(click.ParamType[str]):
    """A chip's name; the shell completes it from metadata alone."""

    name = "target"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from accel.plugins import registry

        names = [n for e in registry().targets.values() for n in (e.name, *e.aliases)]
        return [CompletionItem(n) for n in names if n.startswith(incomplete)]


def together(*options: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """Several options as one decorator, in the order they are listed in the help."""

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def flag(name: str, text: str, *more: str) -> Callable[[Any], Any]:
    """An on-switch."""
    return click.option(name, *more, is_flag=True, help=text)


def many(name: str, metavar: str, text: str, *more: str) -> Callable[[Any], Any]:
    """An option that may be given several times."""
    return click.option(name, *more, multiple=True, metavar=metavar, help=text)


PATH = click.Path(path_type=Path)

model_argument = click.argument("model", metavar="MODEL")
target_flag = click.option(
    "--target", "-t", type=TargetName(), required=True, help="Chip, as `accel targets` lists it."
)
targets_flag = click.option(
    "--target", "-t", type=TargetName(), multiple=True, help="Chip, as `accel targets` lists it; several times."
)
no_cache_flag = flag("--no-cache", "Do all the work again and keep nothing.")

data_flags = together(
    click.option("--data", "-d", default="", help="Samples: folder, list file, .npz, or KIND:PATH."),
    many("--data-option", "NAME=VALUE", "Option of the data reader."),
    click.option("--samples", type=click.IntRange(0), default=0, help="At most this many samples; 0: all."),
    flag("--skip-bad", "Leave unreadable samples out, and name them."),
    click.option("--labels", type=PATH, help="Class names, one a line."),
)
parse_flags = together(
    many("--shape", "[INPUT=]1,3,224,224", "Shape of an input, for free dimensions.", "--input-shape", "shape"),
    many("--output", "TENSOR", "Cut the network at this tensor."),
    many("--rename", "OLD=NEW", "Rename an input."),
    click.option("--weights", type=PATH, help="Second file of a two-file format."),
    click.option("--frontend", default="", help="Frontend to read with; default: by the file."),
    flag("--no-simplify", "Keep the graph as it is."),
    click.option("--name", default="", help="Name of the model; default: the file's."),
    many("--parse-option", "NAME=VALUE", "Option of one frontend."),
)
preprocessing_flags = together(
    click.option("--size", default="", metavar="H,W", help="Pixels of the input; default: the model's."),
    click.option("--resize", default="", metavar="KIND", help="stretch, short_side[:PIXELS] or letterbox."),
    click.option("--interpolation", default="", metavar="F", help="bilinear, bicubic, nearest or area."),
    click.option("--color", default="", metavar="ORDER", help="rgb, bgr or gray."),
    click.option("--layout", default="", metavar="L", help="NCHW or NHWC."),
    click.option("--scale", type=float, help="Factor on the 0..255 pixel, applied first."),
    click.option("--mean", default="", metavar="M[,M,M]", help="Subtracted, in units after --scale."),
    click.option("--std", default="", metavar="S[,S,S]", help="Divided by, in units after --scale."),
)
build_flags = together(
    click.option("--precision", "-p", default="", metavar="P", help="Precision; default: the chip's first."),
    click.option("--backend", default="", metavar="B", help="auto, vendor or reference."),
    click.option("--method", default="", metavar="M", help="Thresholds: auto, minmax, percentile, kl, mse, aciq."),
    click.option("--calibrator", default="", metavar="WHO", help="accel: our thresholds; vendor: the tool's own."),
    click.option("--calibration", type=PATH, help="Statistics of `accel calibrate`, instead of --data."),
    click.option("--batch", default="", metavar="N[,N]", help="Batch sizes the artifact runs."),
    flag("--dynamic", "Dynamic shapes, where the compiler has them."),
    click.option("--opt", type=int, help="Optimisation level of the vendor's compiler."),
    click.option("--cores", type=int, help="Cores (clusters) to build for."),
    many("--node-precision", "NODE=P", "Precision of one node."),
    flag("--fold-preprocessing", "Put mean, std and scale inside the network."),
    click.option("--int-io", default="", metavar="SIDES", help="input, output or both: integers there."),
    many("--pass", "NAME=on|off", "Switch a preparation pass.", "pass_"),
    many("--set", "NAME=VALUE", "Option that only this chip has.", "set_"),
)


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


def preprocessing(base: Preprocessing | None, given: Mapping[str, Any]) -> Preprocessing | None:
    """``base`` with the flags that were given; None when there is neither.

    Args:
        base: From a recipe or an artifact.
        given: ``size``, ``resize``, ``interpolation``, ``color``, ``layout``, ``scale``, ``mean``, ``std`` as typed.
    """
    from accel.preprocessing import Preprocessing

    kinds = get_type_hints(Preprocessing)
    changes: dict[str, Any] = {}
    if given.get("size"):
        pixels = integers(given["size"], "--size")
        if len(pixels) not in (1, 2):
            raise AccelError("--size is H,W", code="usage.arguments")
        changes["size"] = (pixels[0], pixels[-1])
    if given.get("resize"):
        kind, _, side = given["resize"].partition(":")
        changes["resize"] = choice(kind, "--resize", get_args(kinds["resize"]))
        if side:
            changes["resize_to"] = integers(side, "--resize")[0]
    for name in ("color", "layout", "interpolation"):
        if given.get(name):
            changes[name] = choice(given[name], f"--{name}", get_args(kinds[name]))
    if given.get("scale") is not None:
        changes["scale"] = given["scale"]
    for name in ("mean", "std"):
        if given.get(name):
            changes[name] = numbers(given[name], f"--{name}")
    if "std" in changes and 0.0 in changes["std"]:
        raise AccelError("--std cannot be 0", code="usage.arguments")
    return replace(base or Preprocessing(), **changes) if changes else base


def parse_options(given: Mapping[str, Any], base: ParseOptions | None = None) -> ParseOptions:
    """The options of the parse stage; flags override ``base``."""
    from accel.options import ParseOptions

    changes: dict[str, Any] = {
        "frontend": given["frontend"],
        "weights": given["weights"],
        "input_shapes": shapes(given["shape"]),
        "output_names": tuple(given["output"] or ()),
        "renames": pairs(given["rename"], "--rename"),
        "name": given["name"],
        "extra": pairs(given["parse_option"], "--parse-option"),
    }
    if changes["frontend"] == "auto":
        changes["frontend"] = ""
    changes = {k: v for k, v in changes.items() if v}
    if given["no_simplify"]:
        changes["simplify"] = False
    return replace(base or ParseOptions(), **changes)


def build_options(given: Mapping[str, Any], base: BuildOptions | None = None) -> BuildOptions:
    """The options of the build stage; flags that were given override ``base``."""
    from accel.options import Backend, BuildOptions

    changes: dict[str, Any] = {
        "precision": given["precision"],
        "method": given["method"],
        "batches": integers(given["batch"], "--batch"),
        "opt": given["opt"],
        "cores": given["cores"],
        "node_precisions": pairs(given["node_precision"], "--node-precision"),
        "passes": switches(given["pass_"]),
        "set": pairs(given["set_"], "--set"),
        "dynamic": given["dynamic"],
        "fold_preprocessing": given["fold_preprocessing"],
        "labels": read_labels(given["labels"]),
    }
    if given["backend"]:
        changes["backend"] = choice(given["backend"], "--backend", get_args(Backend))
    if given["calibrator"]:
        changes["calibrator"] = choice(given["calibrator"], "--calibrator", ("accel", "vendor"))
    if given["int_io"]:
        words = [w.strip() for w in given["int_io"].split(",")]
        changes["int_io"] = frozenset(choice(w, "--int-io", ("input", "output")) for w in words)
    start = base or BuildOptions()
    changes = {k: v for k, v in changes.items() if v not in (None, "", (), {}, False)}
    changes["preprocessing"] = preprocessing(start.preprocessing, given)
    return replace(start, **changes)


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


def data_options(given: Mapping[str, Any]) -> dict[str, str]:
    """The data reader's options: named ones and ``--data-option``."""
    options = pairs(given["data_option"], "--data-option")
    if given.get("samples"):
        options.setdefault("samples", str(given["samples"]))
    if given.get("skip_bad"):
        options["skip_bad"] = "yes"
    return options


def calibrate_options(given: Mapping[str, Any], base: CalibrateOptions | None = None) -> CalibrateOptions:
    """The options of the calibrate stage as ``compile`` and ``build`` have them."""
    from accel.options import CalibrateOptions

    start = base or CalibrateOptions()
    return replace(start, samples=given["samples"]) if given.get("samples") else start
