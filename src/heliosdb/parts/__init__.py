"""The parts that plug in, by name: algorithms, strategies, sum protocols, codecs and selections.

What always holds: naming the parts imports none of them, and no numpy: the extension names them too. What a
part does is in its own file, which is imported when it is first asked for.
"""
