"""Authentication and authorization: one file for each method of authentication; `base.py` is the port."""
