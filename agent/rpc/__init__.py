"""gRPC servicers, one a proto service, and the interceptors around them."""
