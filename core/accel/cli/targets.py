"""``accel targets``: from package metadata alone; one chip in detail when it is named."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accel.cli.app import family
from accel.cli.console import emit, folded, number, table
from accel.cli.names import target_names

if TYPE_CHECKING:
    from accel.target import Figure, Target


app = family()


@app.command()
def targets(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", autocompletion=target_names, help="The chip to show; default: list them all."),
    ] = None,
) -> None:
    """List the chips, or show one.

    \b
    Examples:
      accel targets
      accel targets bm1684
    """
    if name is None:
        _list()
    else:
        _show(name)


def _list() -> None:
    from accel.plugins import registry

    found = registry()
    rows = [(e.name, ", ".join(e.aliases), e.origin.package, e.origin.version) for e in found.targets.values()]
    problems = found.problems
    result = {
        "targets": [
            {"name": n, "aliases": list(e.aliases), "package": e.origin.package, "version": e.origin.version}
            for n, e in found.targets.items()
        ],
        "problems": [asdict(p) for p in problems],
    }

    def text() -> str:
        if not rows and not problems:
            return "No chip is installed. Each vendor is a package: pip install accel-sophon"
        parts = [table(("target", "aliases", "package", "version"), rows)] if rows else []
        parts += [f"broken: {p.name}: {p.reason} {p.hint}".rstrip() for p in problems]
        return "\n".join(parts)

    emit(result, text)


def _show(name: str) -> None:
    from accel.plugins import registry

    found = registry().target(name)
    emit({"target": found}, lambda: describe(found))


def describe(target: Target) -> str:
    """A chip on one screen."""
    facts: list[tuple[str, str]] = [("vendor", target.vendor)]
    if target.aliases:
        facts.append(("aliases", ", ".join(target.aliases)))
    if target.arch:
        facts.append(("compiler's name", target.arch))
    facts.append(("cores", ", ".join(str(c) for c in target.cores)))
    if target.max_opset:
        facts.append(("highest opset", str(target.max_opset)))
    facts.append(("toolchain", target.toolchain or "none: the embedded reference serves it"))
    figures = [("on-chip memory", target.on_chip_bytes), ("DRAM", target.dram_bytes)]
    figures += [("DRAM bandwidth", target.dram_bandwidth)]
    figures += [(f"peak {precision}", figure) for precision, figure in target.peaks.items()]
    facts += [(label, _figure(figure)) for label, figure in figures if figure is not None]
    rows = [_numerics(target, precision) for precision in target.numerics]
    width = max(len(label) for label, _ in facts)
    parts = [f"{target.name}: {target.summary}", ""]
    parts += [f"{label.ljust(width)}  {value}" for label, value in facts]
    parts += ["", table(("precision", "activations", "weights", "rest", "vendor"), rows)]
    short: dict[str, list[str]] = {}
    for alias, precision in target.precision_aliases.items():
        short.setdefault(precision, []).append(alias)
    parts.append("default: " + target.default_precision)
    if short:
        parts.append(folded("short: " + "; ".join(f"{' or '.join(names)} = {p}" for p, names in short.items())))
    sources = dict.fromkeys(f.source for _, f in figures if f is not None and f.source)
    if sources:
        parts += ["", folded("sources: " + "; ".join(sources))]
    if target.options:
        parts += ["", "options (--set name=value):"]
        parts += [
            folded(f"  {o.name}: {o.help}" + (f" ({', '.join(o.choices)})" if o.choices else ""))
            for o in target.options
        ]
    return "\n".join(parts)


def _numerics(target: Target, precision: str) -> tuple[str, str, str, str, str]:
    n = target.numerics[precision]
    support = target.support.get(precision, {})
    levels = ", ".join(dict.fromkeys(support.values())) or "-"
    return (
        precision,
        _scheme(n.activation) if n.activation else n.float_type,
        _scheme(n.weight) if n.weight else n.float_type,
        n.float_type,
        levels,
    )


def _scheme(scheme: Any) -> str:
    return f"int{scheme.bits} {'sym' if scheme.symmetric else 'asym'}/{scheme.granularity}"


def _figure(figure: Figure) -> str:
    value, unit = figure.value, figure.unit
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{number(round(value / factor, 2)).rstrip('0').rstrip('.')} {prefix}{unit}"
    return f"{number(value)} {unit}"
