"""What is deployed: SavedModels, ONNX and LiteRT files, the REST server, the Beam pipeline.

`saved_model` writes bundles, `bundle` answers requests with one. Neither knows training or
reports.
"""
