"""What proves to a provider who asks: one file a kind. Whatever must be fetched is fetched off the path of requests."""
