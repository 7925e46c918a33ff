"""A model as other people's tools take it: ONNX, TorchScript, the folder of WSInfer (QuPath), timm's folder."""
