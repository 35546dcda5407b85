"""Compiles a quantised model once more: ``compile_level.py QUANTISED ORIGINAL MARCH FLAGS``, into this directory."""

import sys
import time
from pathlib import Path

from horizon_nn.common import HbdkDictParser, ModelDebugger, create_batch_input_shape
from horizon_nn.compiler import compile as compile_model
from horizon_nn.ir import load_model
from horizon_nn.utility import TEMP_DIR


def main():
    quantized, original = load_model(sys.argv[1]), load_model(sys.argv[2])
    Path("hbdk").mkdir()
    TEMP_DIR.cleanup()
    TEMP_DIR.temp_dir = "hbdk"
    flags = HbdkDictParser({"hbdk_pass_through_params": sys.argv[4], "input-source": {"_default_value": "ddr"}})
    shapes = create_batch_input_shape(quantized.graph.input_shapes, {})
    started = time.time()
    hybrid, _ = compile_model(
        quantized_model=quantized,
        original_model=original,
        march=sys.argv[3],
        hbdk_dict_parser=flags,
        model_debugger=ModelDebugger(),
        batched_input_shapes=shapes,
        name_prefix="",
    )
    Path("seconds").write_text(f"{time.time() - started:.2f}")
    for tensor in hybrid.proto.graph.initializer:
        if tensor.name == "PACKED_HBM_MODEL":
            Path("model.hbm").write_bytes(tensor.string_data[0])


if __name__ == "__main__":
    main()
