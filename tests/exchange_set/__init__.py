"""The project's own set of exchanges with providers: requests, replies, streams and errors of every API.

The exchanges are written by hand from the documentation of the wire formats. `python -m exchange_set` (run in `tests/`)
writes them to `tests/data/exchanges`; a test checks that the committed files are exactly what the modules here build.
No module here imports `edge_extproc`: the data is independent of the code that it tests.
"""
