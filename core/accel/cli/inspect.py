"""``accel inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accel.cli.app import family
from accel.cli.console import emit, folded, shown, size, table, wrapped
from accel.cli.results import reports_text

app = family()


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Artifact, .onnx, or a file that a vendor's tool made.")],
    nodes: Annotated[bool, typer.Option("--nodes", help="Also what every node became.")] = False,
) -> None:
    """Describe an artifact, a network or a vendor's file.

    \b
    Examples:
      accel inspect build/net-bm1684-int8
      accel inspect net.bmodel
    """
    from accel.artifacts import MANIFEST

    if (path / MANIFEST).is_file() or path.name == MANIFEST:
        _artifact(path, nodes)
    elif path.suffix == ".onnx":
        _network(path)
    else:
        from accel import driver

        report = driver.inspect(path)
        emit({"report": report}, lambda: reports_text([report]))


def _artifact(path: Path, nodes: bool) -> None:
    from accel import driver
    from accel.errors import AccelError

    artifact = driver.open_artifact(path)
    manifest = artifact.manifest
    try:
        report = driver.inspect_artifact(artifact)
    except AccelError:
        report = None  # nobody knows more than the manifest

    def text() -> str:
        facts = [
            ("model", f"{manifest.name} ({manifest.model_digest[:12]})"),
            ("target", f"{manifest.target}, {manifest.precision}"),
            ("built by", f"{manifest.backend} ({manifest.payload})"),
            ("batches", ", ".join(map(str, manifest.batches))),
            ("passes", ", ".join(manifest.passes) or "none"),
            ("versions", ", ".join(f"{k} {v}" for k, v in manifest.versions.items())),
        ]
        if manifest.options:
            facts.append(("options", ", ".join(f"{k}={v}" for k, v in manifest.options.items())))
        lines = [shown(artifact.path), *(folded(f"  {k.ljust(9)} {v}", indent=12) for k, v in facts)]
        lines += [f"  in        {spec}" for spec in manifest.inputs]
        lines += [f"  out       {spec}" for spec in manifest.outputs]
        files = [(f.path, f.role, size(f.bytes), f.sha256[:12]) for f in manifest.files]
        lines += ["", table(("file", "role", "size", "sha256"), files)]
        if nodes:
            rows = [(n.node, n.op_type, n.precision, n.place, n.note) for n in manifest.nodes]
            lines += ["", table(("node", "operator", "precision", "place", "note"), rows)]
        else:
            count: dict[str, int] = {}
            for node in manifest.nodes:
                count[node.precision] = count.get(node.precision, 0) + 1
            if count:
                lines += ["", "nodes: " + ", ".join(f"{n} in {p}" for p, n in count.items()) + " (--nodes lists them)"]
        lines += [wrapped("note", note) for note in manifest.notes]
        if report is not None:
            lines += ["", reports_text([report])]
        return "\n".join(lines)

    emit({"manifest": manifest, "path": artifact.path, "report": report}, text)


def _network(path: Path) -> None:
    from collections import Counter

    from accel import driver

    model = driver.parse(path)
    ops = Counter(node.op_type for node in model.proto.graph.node)
    opset = {o.domain or "ai.onnx": o.version for o in model.proto.opset_import}

    def text() -> str:
        lines = [f"{model.name} ({model.digest[:12]})"]
        lines += [f"  in   {spec}" for spec in model.inputs]
        lines += [f"  out  {spec}" for spec in model.outputs]
        lines.append("  opset " + ", ".join(f"{k} {v}" for k, v in opset.items()))
        lines.append(f"  {sum(ops.values())} nodes: " + ", ".join(f"{n} {op}" for op, n in ops.most_common()))
        return "\n".join(lines)

    emit({"name": model.name, "inputs": model.inputs, "outputs": model.outputs, "opset": opset, "operators": ops}, text)
