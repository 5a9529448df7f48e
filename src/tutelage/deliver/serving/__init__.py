"""An exported model as a service: HTTP, batches, limits, a web page."""
