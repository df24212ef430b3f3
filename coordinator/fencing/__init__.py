"""Making sure that a node runs no highly available guest any more, before any is started elsewhere."""
