"""Images cached on the node and the volumes made from them; a backend is one way to keep volumes."""
