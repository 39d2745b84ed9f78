"""From a checkpoint to what is deployed: ONNX graphs, engines, and the proof that they agree."""
