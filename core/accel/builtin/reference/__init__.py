"""The embedded reference: quantises the graph by a target's numerics and runs it on ONNX Runtime."""
