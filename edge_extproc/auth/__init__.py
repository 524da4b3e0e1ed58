"""Who is calling: one file per way of proving it, `base.py` is the port."""
