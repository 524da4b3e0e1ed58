"""Services that judge texts over the network."""
