"""An LLM gateway for those who run Envoy or Istio."""

__version__ = "0.1.0"
