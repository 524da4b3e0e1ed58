"""The data types of the gateway: frozen dataclasses that every package may use. This package imports no other one."""
