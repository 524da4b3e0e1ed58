"""One worker process: it answers Envoy's ext_proc and ext_authz streams."""
