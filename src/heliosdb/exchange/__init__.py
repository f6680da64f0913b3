"""Models that travel: a version as a file of the product's own, as ONNX, as PMML, or as SQL for another
engine.

What always holds: all of it is made of what federated_export_model returns; nothing here connects anywhere.
"""
