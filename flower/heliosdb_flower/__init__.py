"""Carries sealed batches between a coordinator and nodes in Flower's messages; it can read none of them."""
