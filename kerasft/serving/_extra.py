"""Imported first: says which line installs what only a server, or a client over gRPC, needs."""

from kerasft._core.extras import require

for _name in ("aiohttp", "grpc", "prometheus_client", "tensorflow_serving"):
    require(_name, "serving")
