"""Rules about the texts of calls and replies: they block, mask, flag or route."""
