"""The IO shell: gRPC and HTTP servers. The only room that imports grpc and protobuf; it decides nothing."""
