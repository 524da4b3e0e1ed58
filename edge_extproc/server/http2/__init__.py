"""gRPC over HTTP/2 on asyncio protocols, without threads (docs/adr/012)."""
