"""Folders that look like exports: the files that a server needs, without a model in them."""


def put_version(folder, number, shards=1):
    """A version that is whole, as far as its names tell."""
    data = folder / str(number) / "variables"
    data.mkdir(parents=True)
    (folder / str(number) / "saved_model.pb").write_bytes(b"")
    (data / "variables.index").write_bytes(b"")
    for i in range(shards):
        (data / f"variables.data-{i:05d}-of-{shards:05d}").write_bytes(b"")


def put_graph(place, signatures):
    """A saved_model.pb that names signatures and holds nothing else.

    Args:
        place: the version.
        signatures: name -> (method, {input: (dtype, shape)}).
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    graph = proto.meta_graphs.add()
    for name, (method, inputs) in signatures.items():
        signature = graph.signature_def[name]
        signature.method_name = method if name.startswith("__") else f"tensorflow/serving/{method}"
        for key, (dtype, shape) in inputs.items():
            info = signature.inputs[key]
            info.name, info.dtype = f"{name}_{key}:0", tf.dtypes.as_dtype(dtype).as_datatype_enum
            if shape is None:
                info.tensor_shape.unknown_rank = True
                continue
            for size in shape:
                info.tensor_shape.dim.add(size=-1 if size is None else size)
    place.mkdir(parents=True, exist_ok=True)
    (place / "saved_model.pb").write_bytes(proto.SerializeToString())
    return place
