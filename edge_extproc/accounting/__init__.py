"""Prices of replies: the port (`base.py`), the price table (`prices.py`), and where its rows come from."""
