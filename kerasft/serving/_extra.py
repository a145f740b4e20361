"""Imported first: says which line installs what only a server needs."""

from kerasft._core.extras import require

for _name in ("aiohttp", "grpc", "prometheus_client", "tensorflow_serving"):
    require(_name, "serving")
