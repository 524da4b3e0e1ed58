"""WebSocket sessions: the upgrade, the messages in both directions, and a settlement for each response."""
