"""Predictions by the Open Inference Protocol, version 2: by REST under /v2 and by gRPC.

What always holds: who may have a prediction, and by which version, the database says anew for each call, as
the caller's role; what is computed here is what it would have computed.
"""
