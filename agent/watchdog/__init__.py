"""The process that ends a node's highly available guests when the coordinator has not been heard of for too long."""
