"""What the gateway costs: the same load straight to a provider, through plain Envoy, and through Envoy with the agent.

All of it runs in one go on one machine, in rounds that take turns, so that what is compared was measured under the
same conditions. Absolute numbers are those of the machine; the ratios and differences are what to look at.
"""
