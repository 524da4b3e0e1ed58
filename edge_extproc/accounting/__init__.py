"""What a reply cost: `base.py` is the port, `prices.py` the table, `compile_prices.py` where its rows come from."""
