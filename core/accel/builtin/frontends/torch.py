"""PyTorch: TorchScript ``.pt``, ``torch.export`` ``.pt2``, and ``module:function`` with a state dict.

Reads with the torch of the toolchain ``torch``, never with one that happens to be importable here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.builtin.frontends.isolated import export
from accel.builtin.frontends.toolchains import TORCH
from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.model import Model
    from accel.options import ParseOptions


def parse(source: Path, options: ParseOptions) -> Model:
    """Read a PyTorch network.

    * TorchScript: ``options.input_shapes`` by the names of ``forward``'s arguments (-1 in front: free batch).
    * ``.pt2``: shapes are in the file.
    * ``options.extra["factory"]``: ``module:function`` (importable on the toolchain's Python) or ``file.py:function``;
      ``source`` is then the state dict, loaded with ``weights_only``. A ``.py`` as ``source`` is the file itself, the
      factory its function's name and ``options.weights`` the state dict.
    * ``options.extra["torch_outputs"]``: names of the outputs, in order, separated by commas; by default the keys of
      the dictionary that the network returns, or numbers. A ``.pt2`` keeps its own.
    * ``options.extra["dtypes"]``: ``name=int64,...`` for inputs that are no float32.

    Raises:
        AccelError: ``toolchain.missing``; ``model.pickle`` for a file that asks for more than tensors; ``usage.*``.
    """
    factory = options.extra.get("factory", "")
    weights = options.weights
    if source.suffix == ".py":
        factory = f"{source.resolve()}:{factory or 'model'}"
    elif factory:
        weights = weights or source
        where, _, function = factory.rpartition(":")
        if not where or not function:
            raise AccelError(
                f"{factory!r} names no factory",
                code="usage.factory",
                hints=["Write module:function or file.py:function."],
            )
        if where.endswith(".py"):
            factory = f"{Path(where).resolve()}:{function}"
    shapes = {name: list(shape) for name, shape in options.input_shapes.items()}
    request: dict[str, Any] = {
        "source": str(source.resolve()),
        "factory": factory,
        "weights": str(weights.resolve()) if weights else "",
        "folder": str(source.resolve().parent),
        "shapes": shapes,
        "outputs": [n for n in options.extra.get("torch_outputs", "").split(",") if n],
        "dtypes": dict(p.split("=", 1) for p in options.extra.get("dtypes", "").split(",") if "=" in p),
    }
    return export(
        TORCH,
        "torch_export.py",
        request,
        _for_graph(options),
        name=options.name or source.stem,
        sources=tuple(dict.fromkeys([source, *([weights] if weights else []), *_code(factory, source)])),
    )


def _code(factory: str, source: Path) -> list[Path]:
    """The file a factory stands in, as far as it lies beside the weights: the model depends on it."""
    where = factory.rpartition(":")[0]
    if where.endswith(".py"):
        return [] if Path(where) == source.resolve() else [Path(where)]
    beside = source.parent.joinpath(*where.split(".")) if where else None
    return [p for p in (beside.with_suffix(".py"), beside / "__init__.py") if p.is_file()] if beside else []


def _for_graph(options: ParseOptions) -> ParseOptions:
    """Shapes were applied at the export: in the graph only a batch that was asked for is left to fix."""
    from dataclasses import replace

    return replace(options, input_shapes={})
