"""What is deployed: SavedModels, ONNX and LiteRT files, the REST server, the Beam pipeline.

`saved_model` says what a bundle answers, `trained_defence` exports one by name, and `bundle`
answers requests with it. `decoding`, `bundle` and `server` know no model.
"""
