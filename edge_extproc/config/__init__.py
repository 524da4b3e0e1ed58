"""One YAML file to one frozen snapshot, and from the snapshot to Envoy's configuration."""
