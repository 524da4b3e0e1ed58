"""One file per host: a dialect, an address, a credential, and quirks. Hosts that only differ in address are rows."""
