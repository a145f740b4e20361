"""The messages and stubs of tensorflow-serving-api, without TensorFlow for Python."""

from kerasft.export._stubs import protos

(example_pb2, tensor_pb2, types_pb2, meta_graph_pb2, model_server_config_pb2) = protos(
    "tensorflow.core.example.example_pb2",
    "tensorflow.core.framework.tensor_pb2",
    "tensorflow.core.framework.types_pb2",
    "tensorflow.core.protobuf.meta_graph_pb2",
    "tensorflow_serving.config.model_server_config_pb2",
)
(
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
) = protos(
    *(
        f"tensorflow_serving.apis.{name}"
        for name in (
            "classification_pb2",
            "get_model_metadata_pb2",
            "get_model_status_pb2",
            "inference_pb2",
            "input_pb2",
            "model_management_pb2",
            "model_pb2",
            "model_service_pb2_grpc",
            "predict_pb2",
            "prediction_log_pb2",
            "prediction_service_pb2_grpc",
            "regression_pb2",
        )
    )
)

Example, TensorProto = example_pb2.Example, tensor_pb2.TensorProto
DataType, SignatureDef = types_pb2.DataType, meta_graph_pb2.SignatureDef
ModelServerConfig = model_server_config_pb2.ModelServerConfig
