"""Folders that look like exports: the files that a server needs, without a model in them."""


def put_version(folder, number, shards=1):
    """A version that is whole, as far as its names tell."""
    data = folder / str(number) / "variables"
    data.mkdir(parents=True)
    (folder / str(number) / "saved_model.pb").write_bytes(b"")
    (data / "variables.index").write_bytes(b"")
    for i in range(shards):
        (data / f"variables.data-{i:05d}-of-{shards:05d}").write_bytes(b"")
