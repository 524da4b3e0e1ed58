"""Commands that run once, beside or before a gateway: `init` and `doctor`."""
