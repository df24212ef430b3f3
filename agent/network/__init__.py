"""Virtual networks of the node and the ports of guests on them; a backend is one way to connect a port."""
