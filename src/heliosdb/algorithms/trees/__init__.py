"""Trees grown from histograms that nodes add up: the parts of random_forest and gradient_boosting.

What always holds: nothing here is found by more than what its modules export; sums are of whole numbers, so
that a model is the same to the bit however its rows are spread over nodes that answer exactly.
"""
