"""The supervisor process: it starts Envoy, the workers and a Valkey, renders Envoy's configuration,
reloads the configuration and serves the admin port."""
