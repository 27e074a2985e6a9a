"""Person boxes: the protocol, ONNX detectors, the whole picture."""
