"""The response cache: its rules, its keys, and its two tiers (L1: process memory, L2: Redis or Valkey)."""
