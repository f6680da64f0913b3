"""Other systems of federated learning, run beside ours by `benchmarks.peers` in environments of their own.

What always holds: nothing here imports them. `flower_app` and `nvflare_app` are programs for their environments.
"""
