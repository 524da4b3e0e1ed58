"""What holds for every ring of tests."""

from hypothesis import settings

# A slow machine is no failure: how fast something is, bench/ measures.
settings.register_profile("edge", deadline=None)
settings.load_profile("edge")
