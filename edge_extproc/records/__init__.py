"""Small records that all workers share: the owners of objects at a provider's account, and replies of repeated
requests."""
