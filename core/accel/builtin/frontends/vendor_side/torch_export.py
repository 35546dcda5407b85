"""PyTorch to ONNX, on the torch toolchain's Python. Nothing but tensors is ever unpickled."""

import contextlib
import importlib
import importlib.util
import os
import pickle
import re
import sys
import warnings
import zipfile
from pathlib import Path

# Before torch is imported: torch.load then refuses everything but tensors, whoever calls it.
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"

import torch
from exporting import Refused, last_words, main, refuse_bomb, samples, save_samples, say
from torch_outputs import output_names, without_dict

_OPSET = 17


def kind_of(path):
    """``script``, ``program``, ``pickle`` (a state dict, or a whole pickled module) by what the file holds."""
    if not zipfile.is_zipfile(path):
        return "pickle"
    refuse_bomb(path)
    with zipfile.ZipFile(path) as archive:
        names = [n.split("/", 1)[-1] for n in archive.namelist()]
    if any(n.startswith("code/") or n == "constants.pkl" for n in names):
        return "script"
    if any(n.startswith("models/") or n == "archive_format" or n == "serialized_exported_program.json" for n in names):
        return "program"
    return "pickle"


def export(request, folder):
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    source, output = Path(request["source"]), folder / "net.onnx"
    if request.get("factory"):
        module = from_factory(request)
        return trace(module, request, folder, output, names=_forward_names(module))
    kind = kind_of(source)
    if kind == "script":
        refuse_outside(source)
        module = torch.jit.load(str(source), map_location="cpu").eval()
        names = [a.name for a in module.forward.schema.arguments][1:]
        return trace(module, request, folder, output, names=names)
    if kind == "program":
        return program(source, folder, output)
    hint = "Say how the network is made: --parse-option factory=MODULE:FUNCTION, with this file as its weights."
    raise Refused("usage.factory", f"{source.name} holds weights or a pickled object, no network", hints=[hint])


# What TorchScript can do beyond arithmetic; a custom class does it as soon as the file is loaded.
_OUTSIDE = re.compile(r"\b(?:torch|ops\.\w+)\.(?:save|load\w*|from_file)\s*\(")


def refuse_outside(source):
    """TorchScript that reads or writes files."""
    with zipfile.ZipFile(source) as archive:
        for name in archive.namelist():
            text = archive.read(name).decode("utf-8", "replace") if name.endswith(".py") else ""
            found = _OUTSIDE.search(text)
            if found:
                what = found.group().rstrip("( ")
                raise Refused("unsupported.op", f"{what} in {name} reaches outside the network, and was refused")


def from_factory(request):
    """The module that ``module:function`` or ``file.py:function`` makes, with the state dict inside."""
    where, _, name = request["factory"].rpartition(":")
    try:
        if where.endswith(".py"):
            spec = importlib.util.spec_from_file_location("accel_factory", where)
            made = importlib.util.module_from_spec(spec)
            sys.path.insert(0, str(Path(where).resolve().parent))
            spec.loader.exec_module(made)
        else:
            sys.path.insert(0, request["folder"])
            made = importlib.import_module(where)
        factory = getattr(made, name)
    except (ImportError, AttributeError, OSError) as error:
        hint = "The module must be importable on the torch toolchain's Python, or be given as FILE.py:FUNCTION."
        raise Refused("usage.factory", f"there is no {request['factory']}", str(error), [hint]) from error
    module = factory()
    if not isinstance(module, torch.nn.Module):
        raise Refused("usage.factory", f"{request['factory']} makes a {type(module).__name__}, no torch.nn.Module")
    if request.get("weights"):
        load_weights(module, request["weights"])
    return module.eval()


def load_weights(module, path):
    if zipfile.is_zipfile(path):
        refuse_bomb(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        cause = str(error).strip().splitlines()[0]
        raise Refused(
            "model.pickle",
            f"{Path(path).name} asks for more than tensors, and was refused",
            cause,
            ["Save the state dict alone: torch.save(module.state_dict(), FILE)."],
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise Refused("model.truncated", f"{Path(path).name} is no readable checkpoint", str(error)) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise Refused("model.weights", f"{Path(path).name} holds a {type(state).__name__}, no state dict")
    if state and all(str(k).startswith("module.") for k in state):
        state = {k[len("module.") :]: v for k, v in state.items()}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise Refused("model.weights", "the weights do not fit the network", str(error)[:1500]) from error


def _forward_names(module):
    import inspect

    found = []
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY):
            break
        if parameter.default is parameter.empty:
            found.append(parameter.name)
    return found


def _specs(request, names):
    """Inputs with their shapes, in the order of ``forward``."""
    shapes = dict(request["shapes"])
    if "" in shapes and len(names) == 1:
        shapes[names[0]] = shapes.pop("")
    missing, unknown = [n for n in names if n not in shapes], [n for n in shapes if n not in names]
    if unknown or (missing and not set(names) & set(shapes)):
        example = " ".join(f"--input-shape {n}=1,3,224,224" for n in names)
        raise Refused(
            "usage.input_shape",
            f"the shape of input {(missing or names)[0]!r} is not known: the file does not hold it"
            if missing and not unknown
            else f"the network has no input {unknown[0]!r}",
            hints=[f"Its inputs: {', '.join(names)}. Give their shapes: {example}"],
        )
    # Inputs behind the last one that was given keep their defaults.
    dtypes = request.get("dtypes") or {}
    return [{"name": n, "shape": shapes[n], "dtype": dtypes.get(n)} for n in names if n in shapes]


def _flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [t for v in value for t in _flat(v)]
    return []


def call(module, feeds):
    with torch.inference_mode():
        return module(*[torch.from_numpy(v) for v in feeds.values()])


def answers(module, feeds):
    return [t.cpu().numpy() for t in _flat(call(module, feeds))]


def trace(module, request, folder, output, names):
    specs = _specs(request, names)
    feeds = samples(specs, 1)
    say("computing what the network answers")
    try:
        first = call(module, feeds)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        shapes = ", ".join(f"{s['name']} {s['shape']}" for s in specs)
        raise Refused(
            "usage.input_shape",
            f"the network does not run on {shapes}",
            last_words(error),
            ["Are these the shapes, and their types, that it was made for?"],
        ) from error
    results = [t.cpu().numpy() for t in _flat(first)]
    outputs = output_names(request.get("outputs"), first, len(results))
    if isinstance(first, dict):
        module = without_dict(module)
    save_samples(folder, 1, feeds, results)
    free = [s["name"] for s in specs if s["shape"][0] == -1]
    if free:
        with contextlib.suppress(Exception):  # then the driver sees that there is no batch 2
            wide = samples(specs, 2)
            save_samples(folder, 2, wide, answers(module, wide))
    say("writing ONNX")
    try:
        torch.onnx.export(
            module,
            tuple(torch.from_numpy(v) for v in feeds.values()),
            str(output),
            dynamo=False,
            input_names=[s["name"] for s in specs],
            output_names=outputs,
            dynamic_axes={n: {0: "batch"} for n in free},
            opset_version=_OPSET,
        )
    except torch.onnx.errors.UnsupportedOperatorError as error:
        raise _unsupported(error) from error
    return {"traced": True}


def _unsupported(error):
    cause = last_words(error)
    found = re.search(r"'(\w+::\w+)'", cause)
    name = found.group(1) if found else "an operator"
    # Attention, for one, is fused when a network is traced without gradients, into operators that only PyTorch has.
    hints = ["Export with torch.export.save (.pt2), which takes operators apart."]
    return Refused("unsupported.op", f"{name} has no counterpart in ONNX", cause, hints)


# What shape expressions of an exported program are made of; sympy evaluates their text as Python.
_FUNCTIONS = frozenset(
    {"Mod", "Max", "Min", "Pow", "Abs", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "floor", "ceiling"}
    | {"sqrt", "Integer", "Symbol", "FloorDiv", "ModularIndexing", "CleanDiv", "PythonMod", "Where", "IntTrueDiv"}
    | {"FloatTrueDiv", "FloatPow", "PowByNatural", "CeilToInt", "FloorToInt", "TruncToInt", "TruncToFloat"}
    | {"RoundToInt", "RoundDecimal", "ToFloat", "Identity", "BitwiseFn_bitwise_and", "BitwiseFn_bitwise_or"}
)


def _only_arithmetic(text):
    plain = re.fullmatch(r"[\w\s+\-*/%(),<>=&|~.']*", text) and "__" not in text
    called = set(re.findall(r"([A-Za-z_]\w*)\s*\(", text or ""))
    if not plain or not called <= _FUNCTIONS or re.search(r"\.\s*[A-Za-z_]", text):
        raise Refused("model.pickle", "a shape of the program is no arithmetic expression, and was refused", text[:200])


@contextlib.contextmanager
def guarded():
    """While a program is read: no pickle but of tensors, and no text evaluated but arithmetic."""
    import sympy

    def refuse(*_, **__):
        raise Refused(
            "model.pickle",
            "the program holds pickled Python objects, and was refused",
            hints=["Export it without custom classes among its constants."],
        )

    plain = sympy.sympify

    def checked(value, *arguments, **options):
        if isinstance(value, str):
            _only_arithmetic(value)
        return plain(value, *arguments, **options)

    saved = pickle.loads, pickle.load
    pickle.loads = pickle.load = refuse
    sympy.sympify = checked
    try:
        yield
    finally:
        pickle.loads, pickle.load = saved
        sympy.sympify = plain


def program(source, folder, output):
    with guarded():
        try:
            made = torch.export.load(str(source))
        except pickle.UnpicklingError as error:
            cause = str(error).strip().splitlines()[0]
            raise Refused("model.pickle", "the program holds pickled Python objects, and was refused", cause) from error
        example = made.example_inputs
    arguments, keywords = example if example else ((), {})
    say("writing ONNX")
    onnx_program = torch.onnx.export(made, dynamo=True, opset_version=18, verify=False)
    names = [i.name for i in onnx_program.model.graph.inputs]
    tensors = _flat(list(arguments) + list((keywords or {}).values()))
    if len(tensors) == len(names):
        with torch.inference_mode():
            results = [t.cpu().numpy() for t in _flat(made.module()(*arguments, **(keywords or {})))]
        feeds = {n: t.cpu().numpy() for n, t in zip(names, tensors, strict=True)}
        save_samples(folder, 1, feeds, results)
    onnx_program.save(str(output), external_data=False)
    return {}


if __name__ == "__main__":
    main(export)
