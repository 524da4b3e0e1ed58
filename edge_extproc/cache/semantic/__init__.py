"""The semantic tier of the cache (L3): it answers a call with the reply to an earlier call of nearly the same words.

It is loaded only if the configuration has `cache.semantic`. An embedder finds earlier questions that are near;
verifiers decide whether one of them means the same. Both, and the store of the vectors, are plugins.
"""
