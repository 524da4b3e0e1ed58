"""What the proxies can do, and how their clusters are named. A worker and the renderer of Envoy's configuration read it
alike, so that both plan for the same proxy."""
