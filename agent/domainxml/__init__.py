"""libvirt's domain elements as typed declarations: parse and format, no policy."""
